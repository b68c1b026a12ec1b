//! Revalidation of the room's state. A change by another node may not have reached this room yet, and the outcome of a change may be
//! unknown. So the room reads the directory before it refuses, and before it answers by a state that may lack a change that is older than
//! [`MAX_AGE`]. Used by every handler that checks a membership.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::time::timeout;

use super::{Room, State};
use crate::{
    Error,
    ask::{Ask, MAILBOX, Question},
    config::STORE_DEADLINE,
};

/// The maximum age of the state against which a room checks a question, at the time when the question arrives.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Handles a question again after the directory was read, or refuses it with the error of the read.
type Retry = Box<dyn FnOnce(&mut Room, Option<Error>, &mut Context<Room>)>;

/// The questions that wait for the directory, and whether a read is in flight.
#[derive(Default)]
pub struct Revalidation {
    is_running: bool,
    waiting: Vec<Retry>,
    /// The number of changes by this actor. A read that started before the last change is older than the room's state and is
    /// discarded.
    changes: u64,
}

impl Revalidation {
    /// Discards the result of a read that is in flight. Called after every change by this actor.
    pub fn invalidate(&mut self) {
        self.changes += 1;
    }
}

impl Room {
    /// Refuses `ask`. In a cluster, the directory is read first, and `ask` is handled again with the new state. Other questions do not wait.
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
        let is_final = ask.again
            || self.parts.broker.changes_read_up_to().is_none()
            || self.revalidation.waiting.len() >= MAILBOX;
        if is_final || !may_be_stale {
            return ask.reply.send(Err(refused));
        }
        self.read_first(Box::new(|room, _, ctx| room.handle(Ask { again: true, ..ask }, ctx)), ctx);
    }

    /// Answers `ask` after the directory was read if the state may lack a change that was made more than [`MAX_AGE`] before. Returns `ask` if
    /// it does not.
    pub(super) fn check_age<Q: Question>(&mut self, ask: Ask<Q>, ctx: &mut Context<Self>) -> Option<Ask<Q>>
    where
        Self: Handler<Ask<Q>, Result = ()>,
    {
        let arrived = Instant::now();
        if ask.again || self.state != State::Open || self.is_current(arrived) {
            return Some(ask);
        }
        metrics::counter!("godzilla_chat_room_age_reads_total").increment(1);
        self.answer_after_read(ask, arrived, ctx);
        None
    }

    /// Whether the state has all changes that were made [`MAX_AGE`] before `arrived`, and those that this actor has heard of.
    fn is_current(&self, arrived: Instant) -> bool {
        let checked = self.parts.broker.changes_read_up_to();
        let is_recent = |checked: Instant| {
            arrived.saturating_duration_since(checked.max(self.read_at)) <= MAX_AGE || self.name.is_lobby()
        };
        self.read_at >= self.changed_at && checked.is_none_or(is_recent)
    }

    fn answer_after_read<Q: Question>(&mut self, ask: Ask<Q>, arrived: Instant, ctx: &mut Context<Self>)
    where
        Self: Handler<Ask<Q>, Result = ()>,
    {
        if self.revalidation.waiting.len() >= MAILBOX {
            return ask.reply.send(Err(Error::full()));
        }
        let retry = move |room: &mut Self, failure: Option<Error>, ctx: &mut Context<Self>| match failure {
            _ if room.is_current(arrived) => room.handle(Ask { again: true, ..ask }, ctx),
            Some(error) => ask.reply.send(Err(error.of_room(&room.name))),
            None if ask.reply.is_closed() => {}
            // The read began too early, or the room has changed meanwhile.
            None => room.answer_after_read(ask, arrived, ctx),
        };
        self.read_first(Box::new(retry), ctx);
    }

    /// Reads the directory, then calls `retry`. All that wait at the same time share one read.
    fn read_first(&mut self, retry: Retry, ctx: &mut Context<Self>) {
        self.revalidation.waiting.push(retry);
        if std::mem::replace(&mut self.revalidation.is_running, true) {
            return;
        }
        let (directory, room, changes, begun) =
            (self.parts.directory.clone(), self.name.clone(), self.revalidation.changes, Instant::now());
        let found = async move {
            timeout(STORE_DEADLINE, directory.find(&room)).await.unwrap_or_else(|_| Err(Error::late()))
        };
        ctx.spawn(found.into_actor(self).map(move |found, room, ctx| {
            room.revalidation.is_running = false;
            let failure = match found {
                Ok(found) if room.revalidation.changes == changes => {
                    room.replace(found, begun);
                    None
                }
                Ok(_) => None,
                Err(error) => Some(error),
            };
            let waiting = std::mem::take(&mut room.revalidation.waiting);
            waiting.into_iter().for_each(|retry| retry(room, failure.clone(), ctx));
        }));
    }
}
