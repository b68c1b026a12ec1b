//! Revalidation of refusals in a cluster. A change by another node may not have reached this room yet, so the room reads the directory
//! again before it refuses. Used by every handler that refuses.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::time::timeout;

use super::{Room, State};
use crate::{
    Error,
    ask::{Ask, MAILBOX, Question},
    config::STORE_DEADLINE,
};

/// Handles a question again after the directory was read.
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

    /// Repeats a failed reload until the directory answers. Other questions do not wait for it.
    pub(super) fn retry_reload(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.revalidation.is_retrying, true) {
            ctx.run_later(RETRY_DELAY, Self::read_again);
        }
    }

    fn read_again(&mut self, ctx: &mut Context<Self>) {
        let (directory, room, changes) =
            (self.parts.directory.clone(), self.name.clone(), self.revalidation.changes);
        let found = async move { timeout(STORE_DEADLINE, directory.find(&room)).await };
        ctx.spawn(found.into_actor(self).map(move |found, room, ctx| {
            room.revalidation.is_retrying = false;
            match found {
                Ok(Ok(_)) if room.revalidation.changes != changes => room.retry_reload(ctx),
                Ok(Ok(Some(entry))) => room.replace(entry),
                Ok(Ok(None)) => room.state = State::Archived,
                Ok(Err(_)) | Err(_) => room.retry_reload(ctx),
            }
        }));
    }

    fn revalidate(&mut self, ctx: &mut Context<Self>) {
        self.revalidation.is_running = true;
        let (directory, room, changes) =
            (self.parts.directory.clone(), self.name.clone(), self.revalidation.changes);
        let found = async move { timeout(STORE_DEADLINE, directory.find(&room)).await };
        ctx.spawn(found.into_actor(self).map(move |found, room, ctx| {
            room.revalidation.is_running = false;
            if let Ok(Ok(entry)) = found
                && room.revalidation.changes == changes
            {
                match entry {
                    Some(entry) => room.replace(entry),
                    None => room.state = State::Archived,
                }
            }
            let waiting = std::mem::take(&mut room.revalidation.waiting);
            waiting.into_iter().for_each(|retry| retry(room, ctx));
        }));
    }
}
