//! Refusals in a cluster: what another node has just changed may not be known here yet, so nobody is turned away before the
//! directory was asked. Used by whatever refuses.

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::time::timeout;

use super::{Room, State, members::Members};
use crate::{
    Error,
    ask::{Ask, MAILBOX, Question},
    config::STORE_DEADLINE,
};

/// What is done after a look.
type Then = Box<dyn FnOnce(&mut Room, &mut Context<Room>)>;

/// See the module.
#[derive(Default)]
pub struct Revalidation {
    /// Whether the directory is being asked.
    is_looking: bool,
    waiting: Vec<Then>,
    /// How many changes this actor itself has made: a look that was begun before one knows less than the room does.
    changes: u64,
}

impl Revalidation {
    /// The room has changed, by this actor.
    pub fn changed(&mut self) {
        self.changes += 1;
    }
}

impl Room {
    /// Refuses, but in a cluster only after a look into the directory: then `ask` is asked again. All that is in doubt at the same
    /// time shares one look, and what is not waits for none.
    pub(super) fn doubt<Q: Question>(&mut self, ask: Ask<Q>, refused: Error, ctx: &mut Context<Self>)
    where
        Self: Handler<Ask<Q>, Result = ()>,
    {
        let may_be_wrong =
            matches!(refused, Error::NotFound | Error::Forbidden(_)) && self.state == State::Open;
        let is_final = ask.again || !self.parts.broker.is_shared() || self.doubts.waiting.len() >= MAILBOX;
        if is_final || !may_be_wrong {
            return ask.reply.send(Err(refused));
        }
        self.doubts.waiting.push(Box::new(|room, ctx| room.handle(Ask { again: true, ..ask }, ctx)));
        if !self.doubts.is_looking {
            self.look(ctx);
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        self.doubts.is_looking = true;
        let (directory, room, changes) =
            (self.parts.directory.clone(), self.name.clone(), self.doubts.changes);
        let found = async move { timeout(STORE_DEADLINE, directory.find(&room)).await };
        ctx.spawn(found.into_actor(self).map(move |found, room, ctx| {
            room.doubts.is_looking = false;
            if let Ok(Ok(entry)) = found
                && room.doubts.changes == changes
            {
                match entry {
                    Some(entry) => room.members = Members::new(entry),
                    None => room.state = State::Archived,
                }
            }
            let waiting = std::mem::take(&mut room.doubts.waiting);
            waiting.into_iter().for_each(|then| then(room, ctx));
        }));
    }
}
