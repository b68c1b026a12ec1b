//! Makes another user a member of a room.

use std::{rc::Rc, time::Instant};

use proto::{RoomName, Username, event::Act};

use super::{Caller, Command, Empty, Outcome, RateClass};
use crate::{Error, directory::Request, room::Change};

/// The new member.
#[derive(Debug, Clone)]
pub struct AddMember {
    /// The room.
    pub room: RoomName,
    /// The user, who must be registered. A member stays one.
    pub user: Username,
}

impl Command for AddMember {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("PUT /rooms/{room}/members/{user}");
    const RATE: RateClass = RateClass::Write;
    const PERMISSION: Option<Act> = Some(Act::AddMember);
    type Answer = Empty;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Empty>, Error> {
        Self::check_permission(caller, &self.room, deadline).await?;
        // The name is stored in its registered spelling.
        let user = caller.chat().user_lookup().find(&self.user).await?.ok_or(Error::NotFound)?;
        let request = Request::addition(caller.user().clone(), user);
        caller.chat().ask(&self.room, Change(request), deadline).await?;
        Ok(Outcome::Done(Empty {}))
    }
}
