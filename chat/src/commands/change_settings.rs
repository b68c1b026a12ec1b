//! Changes the settings of a room.

use std::{rc::Rc, time::Instant};

use proto::{RoomName, event::Act};

use super::{Caller, Command, Outcome, RateClass};
use crate::{
    Error,
    room::settings::{Describe, Description, SetPrivate},
};

/// The settings to change.
#[derive(Debug, Clone)]
pub struct ChangeSettings {
    /// The room.
    pub room: RoomName,
    /// `None` is not changed.
    pub private: Option<bool>,
}

impl Command for ChangeSettings {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("PATCH /rooms/{room}");
    const RATE: RateClass = RateClass::Write;
    const PERMISSION: Option<Act> = Some(Act::ChangeSettings);
    type Answer = Description;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Description>, Error> {
        let (chat, by) = (caller.chat(), caller.user().clone());
        match self.private {
            Some(private) => {
                chat.ask(&self.room, SetPrivate { by: by.clone(), private }, deadline).await?;
            }
            None => Self::check_permission(caller, &self.room, deadline).await?,
        }
        chat.ask(&self.room, Describe(by), deadline).await.map(Outcome::Done)
    }
}
