//! `leave`: ends the user's membership of a room.

use std::{rc::Rc, time::Instant};

use proto::event::{Act, Leave, name};

use super::{Caller, Command, Empty, Outcome, RateClass};
use crate::Error;

impl Command for Leave {
    const EVENT: Option<&'static str> = Some(name::LEAVE);
    const ROUTE: Option<&'static str> = Some("DELETE /rooms/{room}/members/{user}");
    const RATE: RateClass = RateClass::Write;
    const PERMISSION: Option<Act> = Some(Act::Leave);
    type Answer = Empty;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Empty>, Error> {
        let (by, user) = (caller.user().clone(), caller.user().clone());
        caller.chat().remove(&self.room, (by, user), deadline).await?;
        Ok(Outcome::Done(Empty {}))
    }
}
