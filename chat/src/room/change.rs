//! Changing a room in the directory: one change at a time, told by the log when it is durable, then known to the room, then
//! answered. [`super::membership`] and [`super::settings`] say which change.

use std::future::Future;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use proto::RoomName;
use tokio::time::timeout;

use super::{Parts, Room, State, members::Members};
use crate::{
    Error,
    ask::Reply,
    broker::Entry,
    config::STORE_DEADLINE,
    directory::{Committed, Entry as DirectoryEntry},
};

/// A change of this room was committed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Changed;

/// Another node has changed this room.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reload;

impl Handler<Reload> for Room {
    type Result = ();

    fn handle(&mut self, _: Reload, ctx: &mut Self::Context) {
        self.reload(ctx);
    }
}

impl Handler<Changed> for Room {
    type Result = ();

    fn handle(&mut self, _: Changed, ctx: &mut Self::Context) {
        // A change whose outcome is known has reached the room's list by its own answer.
        if self.doubtful {
            self.reload(ctx);
        }
    }
}

impl Room {
    /// Does `work` in the directory; when that is durable `told` goes into the log, then `apply` makes it the room's own.
    ///
    /// The room looks at nothing else meanwhile: whoever was removed cannot post between the commit and the room's hearing of
    /// it, and two changes are known in the order in which they were committed.
    pub(super) fn change<T, W>(
        &mut self,
        ctx: &mut Context<Self>,
        told: Option<Entry>,
        work: impl FnOnce(Parts, RoomName, Committed) -> W,
        apply: impl FnOnce(&mut Self, T) + 'static,
        reply: Reply<()>,
    ) where
        T: 'static,
        W: Future<Output = Result<T, Error>> + 'static,
    {
        let (broker, me) = (self.parts.broker.clone(), ctx.address());
        let told = told.unwrap_or_else(|| Entry::Changed { room: self.name.clone() });
        let (announce, others) = (broker.clone(), told.clone());
        let tell: Committed = Box::new(move || {
            broker.append(told);
            me.do_send(Changed);
        });
        let work = timeout(STORE_DEADLINE, work(self.parts.clone(), self.name.clone(), tell));
        let changed = async move {
            let changed = work.await.unwrap_or_else(|_| Err(Error::Store("no answer in time".to_owned())));
            if changed.is_ok() {
                // Whoever is answered may act on it on any node.
                announce.announce(&others).await;
            }
            changed
        };
        ctx.wait(changed.into_actor(self).map(move |changed, room, ctx| {
            room.doubts.changed();
            let changed = room.certain(changed);
            // The directory has refused what this room allowed: another node has changed the room.
            let is_stale = matches!(changed, Err(Error::NotFound | Error::Forbidden(_)));
            reply.send(changed.map(|value| apply(room, value)));
            if is_stale && room.parts.broker.is_shared() {
                room.reload(ctx);
            }
        }));
    }

    /// The outcome of a change. When it is unknown, whatever the directory commits is told by [`Changed`], now or later, and
    /// from then on believed only after a look: who was removed must not stay in the room's list.
    fn certain<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(error @ (Error::Store(_) | Error::Damaged(_))) = &outcome {
            tracing::warn!(room = %self.name, %error, "a change of a room has no outcome");
            self.doubtful = true;
        }
        outcome
    }

    /// The room is as the directory has it. One that had ended has begun anew, under the same name.
    fn follow(&mut self, entry: DirectoryEntry) {
        if self.state == State::Archived {
            self.state = State::Open;
            self.posts.forget_head();
        }
        self.ephemeral = entry.room_info.ephemeral;
        self.members = Members::new(entry);
    }

    /// Takes the directory's word for who is in the room.
    pub(super) fn reload(&mut self, ctx: &mut Context<Self>) {
        let (directory, room) = (self.parts.directory.clone(), self.name.clone());
        let found = async move { timeout(STORE_DEADLINE, directory.find(&room)).await };
        ctx.wait(found.into_actor(self).map(|found, room, _| match found {
            Ok(Ok(Some(entry))) => room.follow(entry),
            Ok(Ok(None)) => room.state = State::Archived,
            Ok(Err(error)) => tracing::warn!(room = %room.name, %error, "a room was not read again"),
            Err(_) => tracing::warn!(room = %room.name, "a room was not read again in time"),
        }));
    }
}
