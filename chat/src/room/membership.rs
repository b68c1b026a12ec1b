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

/// The answer is the number of the room's last change. On a node of a cluster it can be smaller than the number in the store.
impl Question for Check {
    type Answer = u64;
}

impl Handler<Ask<Check>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Check>, ctx: &mut Self::Context) {
        let Some(ask) = self.check_age(ask, ctx) else { return };
        match self.check(&ask.question.user, ask.question.act) {
            Ok(()) => ask.reply.send(Ok(self.rev)),
            Err(refused) => self.refuse_or_revalidate(ask, refused, ctx),
        }
    }
}
