//! The store of rooms and memberships. Called by rooms, which change their own record, by HTTP, which creates and lists rooms,
//! and by clients, which look up a user's rooms. Backends: [`sqlite`], [`mongo`]. Every backend passes `conformance.rs`.

pub mod change;
#[cfg(test)]
mod conformance;
#[cfg(feature = "mongodb")]
pub mod mongo;
pub mod request;
#[cfg(test)]
pub mod shorthand;
pub mod sqlite;
mod stored_settings;

use async_trait::async_trait;
use proto::{
    RoomName, Timestamp, Username,
    event::{Act, ItemType, RoomKind, Settings},
};
use serde::Serialize;

pub use self::{
    change::{Decision, Departure, DepartureChange, MemberChange},
    request::{Limits, Request},
};
pub use crate::room_change::{ChangeKind, ChangesSince, RoomChange};
use crate::{Error, permission};
pub use proto::event::Role;

/// A room's properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoomInfo {
    /// The room's name. An archived room keeps its name.
    pub name: RoomName,
    /// The settings.
    #[serde(flatten)]
    pub settings: Settings,
    /// The room's owner. `None` for the lobby and for a public room without members.
    pub owner: Option<Username>,
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The member's name.
    pub username: Username,
    /// The member's role.
    pub role: Role,
    /// The user who added the member. `None` for a member who created or joined the room themselves.
    #[serde(skip)]
    pub added_by: Option<Username>,
}

/// Retention of departures in milliseconds (7 days).
pub const DEPARTURE_MS: u64 = 7 * 24 * 3_600_000;

/// A room's properties and members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRecord {
    /// The properties.
    pub room_info: RoomInfo,
    /// The members in the order in which they joined. Empty for the lobby, of which every user is a member.
    pub members: Vec<Member>,
    /// The departures within [`DEPARTURE_MS`].
    pub departures: Vec<Departure>,
    /// The number of changes so far. 0 for the lobby, which has no changes.
    pub rev: u64,
}

/// A request to create a room.
#[derive(Debug, Clone)]
pub struct NewRoom {
    /// The name.
    pub name: RoomName,
    /// The first member, who becomes the owner.
    pub owner: Username,
    /// The settings.
    pub settings: Settings,
}

/// Callback that runs once when a change is durable, with the change. It runs where the store commits, in commit order with all other
/// changes and appends of the store. It does not run when nothing changed.
pub type Committed = Box<dyn FnOnce(RoomChange) + Send>;

/// The store of rooms and memberships. The lobby always exists. Every user is a member of the lobby without being listed, and no
/// method changes it. An archived room is treated as absent.
///
/// A change is checked against the state of the room at the time of the write, because another node may have changed the room
/// after the caller read it.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Creates a room with its owner as the only member.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the name is taken, [`Error::Forbidden`] when the owner has created or joined `limit` rooms already.
    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error>;

    /// Returns the room. `None` when it does not exist.
    async fn find(&self, room: &RoomName) -> Result<Option<RoomRecord>, Error>;

    /// Returns the user's rooms: the lobby, then the others sorted by name.
    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error>;

    /// Changes an existing room, and returns the room after the change. `None` when the room has ended by it. The room as it is when
    /// there is nothing to change.
    ///
    /// # Errors
    /// As [`Request::decide`]. [`Error::NotFound`] when the room does not exist. [`Error::Forbidden`] when one of `limits` is reached.
    async fn change(
        &self,
        room: &RoomName,
        request: Request,
        limits: Limits,
        committed: Committed,
    ) -> Result<Option<RoomRecord>, Error>;

    /// The parts of the room that have changed after the change `rev`, of these types. `None` when the room does not exist.
    async fn changes_since(
        &self,
        room: &RoomName,
        rev: u64,
        types: &[ItemType],
    ) -> Result<Option<ChangesSince>, Error>;
}

/// Refusals of joins and changes, with the same texts in all backends.
pub(crate) mod refusal {
    use crate::Error;

    pub fn taken() -> Error {
        Error::Conflict("this name is taken: a room has it, or an archived room keeps it")
    }

    pub fn own_room_limit() -> Error {
        Error::Forbidden("the user is a member of too many rooms")
    }

    pub fn additions_limit() -> Error {
        Error::Forbidden("you have added too many people to rooms: remove some first")
    }

    pub fn left_room() -> Error {
        Error::Forbidden("the user has left this room: add them again after 7 days, or let them enter it")
    }
}

/// The time before which departures have expired, see [`DEPARTURE_MS`].
pub(crate) fn oldest_departure() -> Timestamp {
    Timestamp(Timestamp::now().0.saturating_sub(DEPARTURE_MS))
}

impl RoomRecord {
    /// Checks that `user` may do `act`.
    ///
    /// # Errors
    /// As [`permission::check`].
    pub fn check(&self, user: &Username, act: Act) -> Result<(), Error> {
        permission::check(self.role(user), act, &self.room_info.settings)
    }

    /// The role of `user`. `None` when the user is not a member.
    fn role(&self, user: &Username) -> Option<Role> {
        if !self.room_info.kind().lists_members() {
            return Some(Role::Member);
        }
        self.member(user).map(|member| member.role)
    }

    /// The membership of `user`. `None` for a user who is not listed.
    pub fn member(&self, user: &Username) -> Option<&Member> {
        self.members.iter().find(|member| member.username.key() == user.key())
    }

    /// The lobby.
    pub fn lobby() -> Self {
        Self { room_info: RoomInfo::lobby(), members: vec![], departures: vec![], rev: 0 }
    }
}

impl NewRoom {
    /// The properties of the created room.
    pub(crate) fn room_info(&self) -> RoomInfo {
        let Self { name, owner, settings } = self.clone();
        RoomInfo { name, settings, owner: Some(owner) }
    }
}

impl RoomInfo {
    /// The properties of the lobby.
    pub fn lobby() -> Self {
        Self { name: RoomName::lobby(), settings: Settings::default(), owner: None }
    }

    /// The room's kind.
    pub fn kind(&self) -> RoomKind {
        RoomKind::of(&self.name)
    }
}
