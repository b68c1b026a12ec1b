//! `join`: makes the user a member of a room, unless `enter` is false, and reads what the client has missed. So a client switches from
//! history to live events without a gap.

use std::{rc::Rc, time::Instant};

use proto::event::{Act, Join, name};

use super::{Caller, Command, Outcome, RateClass};
use crate::{
    Error,
    catch_up::{self, CatchUp, Position},
};

impl Command for Join {
    const EVENT: Option<&'static str> = Some(name::JOIN);
    const ROUTE: Option<&'static str> = Some("GET /rooms/{room}/changes");
    const RATE: RateClass = RateClass::LargeRead;
    const PERMISSION: Option<Act> = Some(Act::Read);
    type Answer = CatchUp;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<CatchUp>, Error> {
        let (position, room, enters) = (Position::from(&self), self.room, self.enter.unwrap_or(true));
        let answer = catch_up::read(caller.chat(), caller.user(), &room, position, enters, deadline).await?;
        Ok(Outcome::Done(answer))
    }
}
