//! The commands of users. A socket and an HTTP request run the same command: [`crate::client`] parses an event and acks the answer, and
//! [`crate::http`] maps a route to a command and the answer to a status.
//!
//! | Payload | Event | HTTP route | Rate class | Permission |
//! |---|---|---|---|---|
//! | `Post` | `message` | POST /rooms/{room}/messages | Message | Post |
//! | `SetTyping` | `typing` | | Write | Post |
//! | `Join` | `join` | GET /rooms/{room}/changes | LargeRead | Read |
//! | `Leave` | `leave` | DELETE /rooms/{room}/members/{user} | Write | Leave |
//! | `History` | `history` | GET /rooms/{room}/messages | LargeRead | Read |
//! | `ListRooms` | | GET /rooms | Read | |
//! | `CreateRoom` | | POST /rooms | Write | |
//! | `DescribeRoom` | | GET /rooms/{room} | Read | Describe |
//! | `ChangeSettings` | | PATCH /rooms/{room} | Write | ChangeSettings |
//! | `ArchiveRoom` | | DELETE /rooms/{room} | Write | Archive |
//! | `Enter` | | PUT /rooms/{room}/members/{user} | Write | Enter |
//! | `AddMember` | | PUT /rooms/{room}/members/{user} | Write | AddMember |
//! | `RemoveMember` | | DELETE /rooms/{room}/members/{user} | Write | RemoveMember |
//! | `ReadOnline` | | GET /presence/online | Read | |
//! | `ReadTyping` | | GET /presence/typing | Read | |
//!
//! Each command has its own file, with its payload and the items of [`Command`] in the same order. A test compares them with this table.

mod add_member;
mod archive_room;
mod caller;
mod change_settings;
mod create_room;
mod describe_room;
mod enter;
mod event;
mod history;
mod join;
mod leave;
mod list_rooms;
mod read_online;
mod read_typing;
mod remove_member;
mod send;
#[cfg(test)]
mod tests;
mod typing;
mod typing_throttle;

use std::{fmt::Debug, rc::Rc, time::Instant};

use proto::{
    RoomName,
    event::{Act, History, Join, Leave, Post, SetTyping},
};
use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    add_member::AddMember,
    archive_room::ArchiveRoom,
    caller::{Caller, Connection},
    change_settings::ChangeSettings,
    create_room::CreateRoom,
    describe_room::DescribeRoom,
    enter::Enter,
    event::{ParseEvent, QueuedCommand},
    list_rooms::ListRooms,
    read_online::ReadOnline,
    read_typing::ReadTyping,
    remove_member::RemoveMember,
};
use crate::{Config, Error, ask::Pending};

/// The commands of sockets.
static EVENTS: [EventCommand; 5] =
    [event::<Post>(), event::<SetTyping>(), event::<Join>(), event::<Leave>(), event::<History>()];

/// A command. Its type is the payload.
pub trait Command: Debug + Sized + 'static {
    /// The name of the event. `None` for a command over HTTP only.
    const EVENT: Option<&'static str>;

    /// The method and path over HTTP. `None` for a command of sockets only.
    const ROUTE: Option<&'static str>;

    /// Whether an event without a payload is one with an empty object.
    const IS_PAYLOAD_OPTIONAL: bool = false;

    /// The rate limit that the command is subject to.
    const RATE: RateClass;

    /// The permission that the command requires in its room. `None` for a command that every user may run.
    const PERMISSION: Option<Act>;

    /// The answer.
    type Answer: Serialize + 'static;

    /// Checks the payload. Called before the command is queued.
    ///
    /// # Errors
    /// [`Error::BadRequest`], [`Error::TooLarge`].
    fn check(&self, _config: &Config) -> Result<(), Error> {
        Ok(())
    }

    /// Checks the permission without running the command. Called for a request whose input is refused, so that a caller without the
    /// permission gets the refusal of the room for any input.
    ///
    /// # Errors
    /// The refusal of the room.
    fn check_permission(
        caller: &Caller,
        room: &RoomName,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Error>> {
        async move {
            match Self::PERMISSION {
                Some(act) => caller.check(room, act, deadline).await,
                None => Ok(()),
            }
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// The refusal of the room, or of a store.
    fn run(
        self,
        caller: &Rc<Caller>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Outcome<Self::Answer>, Error>>;
}

/// The outcome of a command that was not refused.
pub enum Outcome<T> {
    /// The command is complete.
    Done(T),
    /// The room has accepted the command and answers later. The next command of the socket does not wait for it.
    Accepted(Pending<T>),
}

/// The rate limit of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateClass {
    /// The rate of messages: of the socket, or of the user's writes over HTTP.
    Message,
    /// The rate of a socket's events, or of the user's writes over HTTP.
    Write,
    /// The rate of a socket's events. Not limited over HTTP.
    Read,
    /// As [`RateClass::Read`]. The answer is large, so the number of answers that a node reads at the same time is limited.
    LargeRead,
}

/// The answer of a command without a result.
#[derive(Debug, Serialize)]
pub struct Empty {}

/// A command of sockets, of any type.
pub struct EventCommand {
    name: &'static str,
    /// [`Command::RATE`].
    pub rate: RateClass,
    /// Parses the event.
    pub parse: ParseEvent,
}

const fn event<C: Command + DeserializeOwned>() -> EventCommand {
    let name = C::EVENT.expect("a command of sockets has an event");
    EventCommand { name, rate: C::RATE, parse: event::parse::<C> }
}

/// The command of the event `name`.
pub fn of_event(name: &str) -> Option<&'static EventCommand> {
    EVENTS.iter().find(|command| command.name == name)
}

impl<T> Outcome<T> {
    /// Waits for the answer until `deadline`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the deadline expires, and the refusal of the room.
    pub async fn answer(self, deadline: Instant) -> Result<T, Error> {
        match self {
            Self::Done(answer) => Ok(answer),
            Self::Accepted(pending) => pending.until(deadline).await,
        }
    }
}
