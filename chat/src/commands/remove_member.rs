//! Ends the membership of another user.

use std::{rc::Rc, time::Instant};

use proto::{RoomName, Username, event::Act};

use super::{Caller, Command, Empty, Outcome, RateClass};
use crate::Error;

/// The member.
#[derive(Debug, Clone)]
pub struct RemoveMember {
    /// The room.
    pub room: RoomName,
    /// The user. It may not be a member.
    pub user: Username,
}

impl Command for RemoveMember {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("DELETE /rooms/{room}/members/{user}");
    const RATE: RateClass = RateClass::Write;
    const PERMISSION: Option<Act> = Some(Act::RemoveMember);
    type Answer = Empty;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Empty>, Error> {
        // Presence identifies users by the registered spelling of the name.
        let user = caller.chat().user_lookup().find(&self.user).await?.unwrap_or(self.user);
        let by = caller.user().clone();
        caller.chat().remove(&self.room, (by, user), deadline).await?;
        Ok(Outcome::Done(Empty {}))
    }
}
