//! Changes of a room in the directory, one at a time. A change is published when it is durable, then applied to the room's own state,
//! then answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use proto::event::RoomKind;
use tokio::time::timeout;

use super::{Room, State, members::Members};
use crate::{
    Error,
    ask::{Ask, Question, Reply},
    config::STORE_DEADLINE,
    directory::{Committed, Request, RoomRecord},
};

/// Changes the room. The answer is the number of the room's last change. On a node of a cluster it can be smaller than the number in
/// the store. A user who is a member already can be added again.
#[derive(Debug, Clone)]
pub struct Change(pub Request);

impl Question for Change {
    type Answer = u64;
}

/// The directory has committed a change of this room.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Changed {
    /// The number of the change.
    rev: u64,
}

/// Another node may have changed this room. The next question reads the room again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reload;

impl Handler<Reload> for Room {
    type Result = ();

    fn handle(&mut self, _: Reload, _: &mut Self::Context) {
        self.changed_at = Instant::now();
    }
}

impl Handler<Changed> for Room {
    type Result = ();

    fn handle(&mut self, changed: Changed, _: &mut Self::Context) {
        // A change with a certain outcome was applied to the room's own state when its result arrived.
        if changed.rev > self.rev {
            self.changed_at = Instant::now();
        }
    }
}

impl Handler<Ask<Change>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Change>, ctx: &mut Self::Context) {
        let Some(ask) = self.check_age(ask, ctx) else { return };
        let request = &ask.question.0;
        if let Err(refused) = self.check_request(request) {
            return self.refuse_or_revalidate(ask, refused, ctx);
        }
        let is_member = |user| self.members.role(user).is_some();
        if request.new_member().is_some_and(is_member) {
            return ask.reply.send(Ok(self.rev));
        }
        self.change(ask.question.0, ask.reply, ctx);
    }
}

impl Room {
    fn check_request(&mut self, request: &Request) -> Result<(), Error> {
        self.check_open()?;
        let role = self.members.role(request.by());
        request.check(RoomKind::of(&self.name), role, &self.settings)
    }

    /// Changes the room in the directory. When the change is durable, it is published. Then the room takes the state after it, and
    /// `reply` is answered with the number of the room's last change.
    ///
    /// The room handles no other message in the meantime. So a removed member cannot post between the commit and the update of the
    /// room's state, and changes are applied in commit order.
    fn change(&mut self, request: Request, reply: Reply<u64>, ctx: &mut Context<Self>) {
        let (parts, room, name, begun) =
            (self.parts.clone(), ctx.address(), self.name.clone(), Instant::now());
        let (publisher, last) = (parts.broker.clone(), Arc::new(AtomicU64::new(0)));
        let rev = last.clone();
        let on_commit: Committed = Box::new(move |change| {
            let rev = change.rev;
            last.store(rev, Ordering::Release);
            publisher.publish_change(change);
            room.do_send(Changed { rev });
        });
        let written = self.posts.wait_until_written();
        let result = async move {
            // A batch that was sent to the store before the change is in the log before it.
            written.await;
            let change = async {
                if request.new_member().is_some() {
                    parts.broker.subscribe(std::slice::from_ref(&name)).await?;
                }
                parts.directory.change(&name, request, parts.limits, on_commit).await
            };
            let late = || Err(Error::Store("no answer in time".to_owned()));
            let result = timeout(STORE_DEADLINE, change).await.unwrap_or_else(|_| late());
            let rev = rev.load(Ordering::Acquire);
            if result.is_ok() {
                // Before the answer: the caller may act on the change on any node. Without a change there is nothing to wait for.
                parts.broker.wait_for_change(&name, rev).await;
            }
            (result, rev)
        };
        ctx.wait(result.into_actor(self).map(move |(result, rev), room, _| {
            room.revalidation.invalidate();
            match result {
                Ok(found) => {
                    room.replace(found, begun);
                    room.rev = room.rev.max(rev);
                    reply.send(Ok(room.rev));
                }
                // The change may have been committed, or the directory has refused a change that this room allowed.
                Err(error) => {
                    room.changed_at = Instant::now();
                    reply.send(Err(error.of_room(&room.name)));
                }
            }
        }));
    }

    /// Replaces the room's state by what the directory has (`None`: the room has ended), by a read that began at `begun`.
    pub(super) fn replace(&mut self, found: Option<RoomRecord>, begun: Instant) {
        self.read_at = begun;
        match found {
            Some(entry) => {
                self.settings = entry.room_info.settings.clone();
                self.rev = entry.rev;
                self.members = Members::new(entry);
            }
            None => self.state = State::Archived,
        }
    }
}
