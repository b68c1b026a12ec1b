//! Makes the user a member of a public room, without reading what was missed.

use std::{rc::Rc, time::Instant};

use proto::{RoomName, event::Act};

use super::{Caller, Command, Empty, Outcome, RateClass};
use crate::{Error, directory::Request, room::Change};

/// The room.
#[derive(Debug, Clone)]
pub struct Enter {
    /// The room.
    pub room: RoomName,
}

impl Command for Enter {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("PUT /rooms/{room}/members/{user}");
    const RATE: RateClass = RateClass::Write;
    const PERMISSION: Option<Act> = Some(Act::Enter);
    type Answer = Empty;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Empty>, Error> {
        Self::check_permission(caller, &self.room, deadline).await?;
        let request = Request::Join { user: caller.user().clone() };
        caller.chat().ask(&self.room, Change(request), deadline).await?;
        Ok(Outcome::Done(Empty {}))
    }
}
