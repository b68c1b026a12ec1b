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

/// Checks that this user may read, and returns the number of the room's last change. On a node of a cluster it can be smaller than the
/// number in the store.
#[derive(Debug, Clone)]
pub struct ReadRev(pub Username);

impl Question for Check {
    type Answer = ();
}

impl Question for ReadRev {
    type Answer = u64;
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

impl Handler<Ask<ReadRev>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<ReadRev>, ctx: &mut Self::Context) {
        let Some(ask) = self.check_age(ask, ctx) else { return };
        match self.check(&ask.question.0, Act::Read) {
            Ok(()) => ask.reply.send(Ok(self.rev)),
            Err(refused) => self.refuse_or_revalidate(ask, refused, ctx),
        }
    }
}
