//! Changes of a room in the directory, one at a time. A change is published when it is durable, then applied to the room's own state,
//! then answered. Called by [`super::membership`] and [`super::settings`].

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use proto::RoomName;
use tokio::time::timeout;

use super::{Parts, Room, State, members::Members};
use crate::{
    Error,
    ask::Reply,
    config::STORE_DEADLINE,
    directory::{Committed, RoomRecord},
};

/// The directory has committed a change of this room.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Changed {
    /// The number of the change.
    rev: u64,
}

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

    fn handle(&mut self, changed: Changed, ctx: &mut Self::Context) {
        let is_complete = self.note_rev(changed.rev);
        // A change with a certain outcome was applied to the room's own state when its result arrived.
        if self.has_unknown_outcome || !is_complete {
            self.reload(ctx);
        }
    }
}

impl Room {
    /// Runs `change` in the directory. When it is durable, it is published. Then `apply` updates the room's own state, and `reply` is
    /// answered.
    ///
    /// The room handles no other message in the meantime. So a removed member cannot post between the commit and the update of the
    /// room's state, and changes are applied in commit order.
    pub(super) fn change<T, A, W>(
        &mut self,
        ctx: &mut Context<Self>,
        change: impl FnOnce(Parts, RoomName, Committed) -> W,
        apply: impl FnOnce(&mut Self, T) -> A + 'static,
        reply: Reply<A>,
    ) where
        T: 'static,
        A: 'static,
        W: Future<Output = Result<T, Error>> + 'static,
    {
        let (broker, room, name) = (self.parts.broker.clone(), ctx.address(), self.name.clone());
        let (publisher, committed) = (broker.clone(), Arc::new(AtomicU64::new(0)));
        let (last, rev) = (committed.clone(), committed.clone());
        let on_commit: Committed = Box::new(move |change| {
            let rev = change.rev;
            last.store(rev, Ordering::Release);
            publisher.publish_change(change);
            room.do_send(Changed { rev });
        });
        let change = timeout(STORE_DEADLINE, change(self.parts.clone(), self.name.clone(), on_commit));
        let result = async move {
            let result = change.await.unwrap_or_else(|_| Err(Error::Store("no answer in time".to_owned())));
            if result.is_ok() {
                // Before the answer: the caller may act on the change on any node. Without a change there is nothing to wait for.
                broker.wait_for_change(&name, committed.load(Ordering::Acquire)).await;
            }
            result
        };
        ctx.wait(result.into_actor(self).map(move |result, room, ctx| {
            room.revalidation.invalidate();
            room.generation.fetch_add(1, Ordering::Release);
            let result = room.note_outcome(result);
            // The directory has refused a change that this room allowed: another node has changed the room.
            let is_stale = matches!(result, Err(Error::NotFound | Error::Forbidden(_)));
            let is_complete = room.note_rev(rev.load(Ordering::Acquire));
            reply.send(result.map(|value| apply(room, value)));
            if (is_stale && room.parts.broker.is_shared()) || !is_complete {
                room.reload(ctx);
            }
        }));
    }

    /// Records that this actor has applied the change `rev` to its state; 0 for no change. Returns whether the state is complete up to it.
    /// It is not if another node has made a change just before: the state has the result of this change, and may lack the other one.
    fn note_rev(&mut self, rev: u64) -> bool {
        if rev == self.rev + 1 {
            self.rev = rev;
        }
        rev <= self.rev
    }

    /// Checks whether the outcome of a change is unknown. Such a change may still be committed, now or later, and [`Changed`] then
    /// follows. From then on the room is reloaded after every commit: a removed user must not stay in the member list.
    fn note_outcome<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &outcome {
            let is_damaged = matches!(error, Error::Damaged(_));
            if is_damaged {
                tracing::warn!(room = %self.name, %error, "change of a room failed, its outcome is unknown");
            }
            self.has_unknown_outcome |= is_damaged || error.is_of_store();
        }
        // An error of the store is logged with the refusal of the request.
        outcome.map_err(|error| error.of_room(&self.name))
    }

    /// Replaces the room's state by what the directory has (`None`: the room has ended), by a read that began at `begun`.
    pub(super) fn replace(&mut self, found: Option<RoomRecord>, begun: Instant) {
        self.read_at = begun;
        self.generation.fetch_add(1, Ordering::Release);
        match found {
            Some(entry) => self.replace_state(entry),
            None => self.state = State::Archived,
        }
    }

    /// Replaces the room's state by `entry`. An archived room is open again: a new room was created under the same name.
    fn replace_state(&mut self, entry: RoomRecord) {
        if self.state == State::Archived {
            self.state = State::Open;
            self.posts.reset_head();
        }
        self.settings = entry.room_info.settings.clone();
        self.rev = entry.rev;
        self.members = Members::new(entry);
    }

    /// Reads the room from the directory again. The room handles no other message in the meantime.
    pub(super) fn reload(&mut self, ctx: &mut Context<Self>) {
        let (directory, room, begun) = (self.parts.directory.clone(), self.name.clone(), Instant::now());
        let found = async move { timeout(STORE_DEADLINE, directory.find(&room)).await };
        ctx.wait(found.into_actor(self).map(move |found, room, ctx| match found {
            Ok(Ok(found)) => room.replace(found, begun),
            Ok(Err(error)) => {
                tracing::warn!(room = %room.name, %error, "reload of a room failed; retrying");
                room.retry_reload(ctx);
            }
            Err(_) => {
                tracing::warn!(room = %room.name, "reload of a room timed out; retrying");
                room.retry_reload(ctx);
            }
        }));
    }
}
