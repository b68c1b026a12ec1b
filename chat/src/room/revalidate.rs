//! Revalidation of the room's state in a cluster. A change by another node may not have reached this room yet. So the room reads the
//! directory before it refuses, and before it answers by a state that may be older than [`MAX_AGE`]. Used by every handler that checks a
//! membership.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::time::timeout;

use super::{Room, State};
use crate::{
    Error,
    ask::{Ask, MAILBOX, Question},
    broker::MAX_AGE,
    config::STORE_DEADLINE,
};

/// Handles a question again after the directory was read, or could not be read.
type Retry = Box<dyn FnOnce(&mut Room, &mut Context<Room>)>;

/// The delay before a failed reload is repeated.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The questions that wait for the directory, and whether a read is in flight.
#[derive(Default)]
pub struct Revalidation {
    is_running: bool,
    waiting: Vec<Retry>,
    /// The number of changes by this actor. A read that started before the last change is older than the room's state and is
    /// discarded.
    changes: u64,
    /// Whether a failed reload is being repeated.
    is_retrying: bool,
    /// The error of the last read. `None` when it has succeeded.
    failure: Option<Error>,
}

impl Revalidation {
    /// Discards the result of a read that is in flight. Called after every change by this actor.
    pub fn invalidate(&mut self) {
        self.changes += 1;
    }
}

impl Room {
    /// Refuses `ask`. In a cluster, the directory is read first, and `ask` is handled again with the new state. All questions that wait
    /// at the same time share one read. Other questions do not wait for it.
    pub(super) fn refuse_or_revalidate<Q: Question>(
        &mut self,
        ask: Ask<Q>,
        refused: Error,
        ctx: &mut Context<Self>,
    ) where
        Self: Handler<Ask<Q>, Result = ()>,
    {
        let may_be_stale =
            matches!(refused, Error::NotFound | Error::Forbidden(_)) && self.state == State::Open;
        let is_final =
            ask.again || !self.parts.broker.is_shared() || self.revalidation.waiting.len() >= MAILBOX;
        if is_final || !may_be_stale {
            return ask.reply.send(Err(refused));
        }
        self.revalidation.waiting.push(Box::new(|room, ctx| room.handle(Ask { again: true, ..ask }, ctx)));
        if !self.revalidation.is_running {
            self.revalidate(ctx);
        }
    }

    /// Answers `ask` after the directory was read if the state may lack a change that was made more than [`MAX_AGE`] before. Returns `ask` if
    /// it does not. A read is needed only while the node's reads of the versions of rooms are late, or a change of this room is not applied
    /// yet. All questions that wait at the same time share one read.
    pub(super) fn check_age<Q: Question>(&mut self, ask: Ask<Q>, ctx: &mut Context<Self>) -> Option<Ask<Q>>
    where
        Self: Handler<Ask<Q>, Result = ()>,
    {
        let arrived = Instant::now();
        if ask.again || self.state != State::Open || self.is_current(arrived) {
            return Some(ask);
        }
        metrics::counter!("godzilla_chat_room_age_reads_total").increment(1);
        self.wait_for_read(ask, arrived, ctx);
        None
    }

    /// Whether the state has all changes that were made [`MAX_AGE`] before `arrived`.
    fn is_current(&self, arrived: Instant) -> bool {
        let Some(watch) = &self.watch else { return true };
        arrived.saturating_duration_since(self.read_at) <= MAX_AGE
            || arrived.checked_sub(MAX_AGE).is_some_and(|at| watch.is_current(self.rev, at))
    }

    fn wait_for_read<Q: Question>(&mut self, ask: Ask<Q>, arrived: Instant, ctx: &mut Context<Self>)
    where
        Self: Handler<Ask<Q>, Result = ()>,
    {
        if self.revalidation.waiting.len() >= MAILBOX {
            return ask.reply.send(Err(Error::full()));
        }
        self.revalidation.waiting.push(Box::new(move |room, ctx| {
            if room.is_current(arrived) {
                return room.handle(Ask { again: true, ..ask }, ctx);
            }
            match room.revalidation.failure.clone() {
                Some(error) => ask.reply.send(Err(error.of_room(&room.name))),
                None if ask.reply.is_closed() => {}
                // The read began too early, or the room has changed meanwhile.
                None => room.wait_for_read(ask, arrived, ctx),
            }
        }));
        if !self.revalidation.is_running {
            self.revalidate(ctx);
        }
    }

    /// Repeats a failed reload until the directory answers. Other questions do not wait for it.
    pub(super) fn retry_reload(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.revalidation.is_retrying, true) {
            ctx.run_later(RETRY_DELAY, Self::read_again);
        }
    }

    fn read_again(&mut self, ctx: &mut Context<Self>) {
        let (directory, room, changes, begun) =
            (self.parts.directory.clone(), self.name.clone(), self.revalidation.changes, Instant::now());
        let found = async move { timeout(STORE_DEADLINE, directory.find(&room)).await };
        ctx.spawn(found.into_actor(self).map(move |found, room, ctx| {
            room.revalidation.is_retrying = false;
            match found {
                Ok(Ok(_)) if room.revalidation.changes != changes => room.retry_reload(ctx),
                Ok(Ok(found)) => room.replace(found, begun),
                Ok(Err(_)) | Err(_) => room.retry_reload(ctx),
            }
        }));
    }

    fn revalidate(&mut self, ctx: &mut Context<Self>) {
        self.revalidation.is_running = true;
        let (directory, room, changes, begun) =
            (self.parts.directory.clone(), self.name.clone(), self.revalidation.changes, Instant::now());
        let found = async move {
            timeout(STORE_DEADLINE, directory.find(&room)).await.unwrap_or_else(|_| Err(Error::late()))
        };
        ctx.spawn(found.into_actor(self).map(move |found, room, ctx| {
            room.revalidation.is_running = false;
            room.revalidation.failure = found.as_ref().err().cloned();
            if let Ok(found) = found
                && room.revalidation.changes == changes
            {
                room.replace(found, begun);
            }
            let waiting = std::mem::take(&mut room.revalidation.waiting);
            waiting.into_iter().for_each(|retry| retry(room, ctx));
        }));
    }
}
