//! Changes the settings of a room.

use std::{rc::Rc, time::Instant};

use proto::{
    RoomName,
    event::{Act, SettingsPatch},
};

use super::{Caller, Command, Outcome, RateClass};
use crate::{
    Error,
    directory::Request,
    room::{
        Change,
        settings::{Describe, Description},
    },
};

/// The settings to change.
#[derive(Debug, Clone)]
pub struct ChangeSettings {
    /// The room.
    pub room: RoomName,
    /// The new values.
    pub patch: SettingsPatch,
}

impl Command for ChangeSettings {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("PATCH /rooms/{room}");
    const RATE: RateClass = RateClass::Write;
    const PERMISSION: Option<Act> = Some(Act::ChangeSettings);
    type Answer = Description;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<Description>, Error> {
        let (chat, by) = (caller.chat(), caller.user().clone());
        if self.patch.is_empty() {
            Self::check_permission(caller, &self.room, deadline).await?;
        } else {
            let request = Request::Settings { by: by.clone(), patch: self.patch };
            chat.ask(&self.room, Change(request), deadline).await?;
        }
        chat.ask(&self.room, Describe(by), deadline).await.map(Outcome::Done)
    }
}
