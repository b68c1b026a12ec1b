//! The permissions of users in a room. Asked by clients and HTTP. Memberships are changed by [`super::change`].

use actix::Handler;
use proto::{Username, event::Act};

use super::Room;
use crate::ask::{Ask, Question};

/// Checks that a user has the permission for `act`.
#[derive(Debug, Clone)]
pub struct Check {
    /// The user.
    pub user: Username,
    /// What the user does.
    pub act: Act,
}

/// Checks that this user may read. Asked before and after a read by [`crate::room_reader`].
#[derive(Debug, Clone)]
pub struct MayRead(pub Username);

/// The room that a user may read, at the time of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readable {
    /// The number of the room's last change. On a node of a cluster it can be smaller than the number in the store.
    pub rev: u64,
    /// As [`Room::incarnation`](super::Room).
    pub incarnation: u64,
}

impl Question for Check {
    type Answer = ();
}

impl Question for MayRead {
    type Answer = Readable;
}

impl Handler<Ask<Check>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Check>, ctx: &mut Self::Context) {
        let Some(ask) = self.check_age(ask, ctx) else { return };
        match self.check(&ask.question.user, ask.question.act) {
            Ok(()) => ask.reply.send(Ok(())),
            Err(refused) => self.refuse_or_revalidate(ask, refused, ctx),
        }
    }
}

impl Handler<Ask<MayRead>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<MayRead>, ctx: &mut Self::Context) {
        let Some(ask) = self.check_age(ask, ctx) else { return };
        match self.check(&ask.question.0, Act::Read) {
            Ok(()) => ask.reply.send(Ok(Readable { rev: self.rev, incarnation: self.incarnation })),
            Err(refused) => self.refuse_or_revalidate(ask, refused, ctx),
        }
    }
}
