//! Reads the users that are online.

use std::{rc::Rc, time::Instant};

use proto::event::Act;
use serde::Serialize;

use super::{Caller, Command, Outcome, RateClass};
use crate::Error;

/// The command has no payload.
#[derive(Debug, Clone, Copy)]
pub struct ReadOnline;

/// The users.
#[derive(Debug, Serialize)]
pub struct OnlineUsers {
    /// Their names, sorted.
    online: Vec<String>,
}

impl Command for ReadOnline {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("GET /presence/online");
    const RATE: RateClass = RateClass::Read;
    const PERMISSION: Option<Act> = None;
    type Answer = OnlineUsers;

    async fn run(self, caller: &Rc<Caller>, _: Instant) -> Result<Outcome<OnlineUsers>, Error> {
        let online = caller.chat().presence().online().ok_or_else(Error::unknown_presence)?;
        Ok(Outcome::Done(OnlineUsers { online }))
    }
}
