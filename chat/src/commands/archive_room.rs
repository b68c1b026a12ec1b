//! Archives a room permanently: all memberships end, the messages and the name stay.

use std::{rc::Rc, time::Instant};

use proto::{RoomName, event::Act};

use super::{Caller, Command, Empty, Outcome, RateClass};
use crate::{
    Error,
    directory::Request,
    room::{Change, settings::Describe},
};

/// The room.
#[derive(Debug, Clone)]
pub struct ArchiveRoom {
    /// The room.
    pub room: RoomName,
}

impl Command for ArchiveRoom {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("DELETE /rooms/{room}");
    const RATE: RateClass = RateClass::Write;
    const PERMISSION: Option<Act> = Some(Act::Archive);
    type Answer = Empty;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Empty>, Error> {
        let (chat, room, by) = (caller.chat(), &self.room, caller.user().clone());
        let members = chat.ask(room, Describe(by.clone()), deadline).await?.members.unwrap_or_default();
        chat.ask(room, Change(Request::Archive { by }), deadline).await?;
        members.iter().for_each(|member| chat.presence().typing(&member.username, room, false));
        Ok(Outcome::Done(Empty {}))
    }
}
