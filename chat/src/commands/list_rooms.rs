//! Lists the user's rooms, the lobby first.

use std::{rc::Rc, time::Instant};

use proto::event::Act;
use serde::Serialize;

use super::{Caller, Command, Outcome, RateClass};
use crate::{Error, chat::with_deadline, directory::RoomInfo};

/// The command has no payload.
#[derive(Debug, Clone, Copy)]
pub struct ListRooms;

/// The rooms.
#[derive(Debug, Serialize)]
pub struct RoomList {
    rooms: Vec<RoomInfo>,
}

impl Command for ListRooms {
    const EVENT: Option<&'static str> = None;
    const ROUTE: Option<&'static str> = Some("GET /rooms");
    const RATE: RateClass = RateClass::Read;
    const PERMISSION: Option<Act> = None;
    type Answer = RoomList;

    async fn run(self, caller: &Rc<Caller>, deadline: Instant) -> Result<Outcome<RoomList>, Error> {
        let rooms = with_deadline(deadline, caller.chat().directory().rooms_of(caller.user())).await?;
        Ok(Outcome::Done(RoomList { rooms }))
    }
}
