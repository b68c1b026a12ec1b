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
    /// The role. `None` for [`MEMBER`].
    pub role: Option<String>,
}

/// The only role that can be given.
const MEMBER: &str = "member";

impl Command for AddMember {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("PUT /rooms/{room}/members/{user}");
    const RATE: RateClass = RateClass::Write;
    const PERMISSION: Option<Act> = Some(Act::AddMember);
    type Answer = Empty;

    /// Also counts against the rate of additions.
    async fn check_permission(caller: &Caller, room: &RoomName, deadline: Instant) -> Result<(), Error> {
        caller.check(room, Act::AddMember, deadline).await?;
        caller.chat().check_addition(caller.user())
    }

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Empty>, Error> {
        Self::check_permission(caller, &self.room, deadline).await?;
        check_role(self.role.as_deref())?;
        // The name is stored in its registered spelling.
        let user = caller.chat().user_lookup().find(&self.user).await?.ok_or(Error::NotFound)?;
        let request = Request::addition(caller.user().clone(), user);
        caller.chat().ask(&self.room, Change(request), deadline).await?;
        Ok(Outcome::Done(Empty {}))
    }
}

/// Refuses a role that cannot be given.
pub fn check_role(role: Option<&str>) -> Result<(), Error> {
    let refused = match role {
        None | Some(MEMBER) => return Ok(()),
        Some("owner") => "role owner cannot be given: it goes to the oldest member when the owner leaves",
        Some(_) => "role is member, or absent",
    };
    Err(Error::BadRequest(refused.to_owned()))
}
