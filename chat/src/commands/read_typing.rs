//! Reads the users that type in one of the user's rooms and are members of it.

use std::{collections::BTreeSet, rc::Rc, time::Instant};

use proto::event::Act;
use serde::Serialize;

use super::{Caller, Command, Outcome, RateClass};
use crate::{Error, chat::with_deadline, room::settings::Describe};

/// The command has no payload.
#[derive(Debug, Clone, Copy)]
pub struct ReadTyping;

/// The users.
#[derive(Debug, Serialize)]
pub struct TypingUsers {
    /// Their names.
    typing: BTreeSet<String>,
}

impl Command for ReadTyping {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("GET /presence/typing");
    const RATE: RateClass = RateClass::Read;
    const PERMISSION: Option<Act> = None;
    type Answer = TypingUsers;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<TypingUsers>, Error> {
        let (chat, user) = (caller.chat(), caller.user());
        let room_infos = with_deadline(deadline, chat.directory().rooms_of(user)).await?;
        let names = room_infos.iter().map(|room_info| &room_info.name);
        let by_room = chat.presence().typing_by_room(names).ok_or_else(Error::unknown_presence)?;
        let mut typing = BTreeSet::new();
        for (room, users) in by_room {
            match chat.ask(&room, Describe(user.clone()), deadline).await {
                Ok(room) => typing.extend(users.into_iter().filter(|user| room.is_shared_with(user))),
                // The caller has left the room in the meantime.
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome::Done(TypingUsers { typing }))
    }
}
