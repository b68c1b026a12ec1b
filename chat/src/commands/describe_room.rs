//! Reads a room as the user sees it.

use std::{rc::Rc, time::Instant};

use proto::{RoomName, event::Act};

use super::{Caller, Command, Outcome, RateClass};
use crate::{
    Error,
    room::settings::{Describe, Description},
};

/// The room.
#[derive(Debug, Clone)]
pub struct DescribeRoom {
    /// The room.
    pub room: RoomName,
}

impl Command for DescribeRoom {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("GET /rooms/{room}");
    const RATE: RateClass = RateClass::Read;
    const PERMISSION: Option<Act> = Some(Act::Describe);
    type Answer = Description;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Description>, Error> {
        caller.chat().ask(&self.room, Describe(caller.user().clone()), deadline).await.map(Outcome::Done)
    }
}
