//! Which rooms there are and who is in them. Rooms change their own entry, HTTP creates and lists, clients ask where a user
//! is. Backends: [`sqlite`], [`mongo`]; every backend passes `conformance.rs`.

#[cfg(test)]
mod conformance;
pub mod mongo;
pub mod sqlite;

use async_trait::async_trait;
use proto::{RoomName, Timestamp, Username};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What a room is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoomInfo {
    /// Its name. An archived room keeps it, unless it was ephemeral or a private room that everybody has left.
    pub name: RoomName,
    /// Whether only members may know of it.
    pub private: bool,
    /// Whether it is forgotten after a while.
    pub ephemeral: bool,
    /// Who owns it; the lobby belongs to nobody, and so does a public room that everybody has left.
    pub owner: Option<Username>,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Changes and archives the room, adds and removes members.
    Owner,
    /// Reads and posts.
    Member,
}

/// Somebody in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Who.
    pub username: Username,
    /// As what.
    pub role: Role,
    /// Who added them; none for a member who made or entered the room themselves.
    #[serde(skip)]
    pub added_by: Option<Username>,
}

/// How much may be done to user_lookup by others.
#[derive(Debug, Clone, Copy)]
pub struct Additions {
    /// The rooms into which others may have added one user.
    pub per_user: usize,
    /// The memberships that one user may have made for others.
    pub per_adder: usize,
}

/// How long it is kept that somebody has left a room into which they were added, in milliseconds (7 days).
pub const DEPARTURE_MS: u64 = 7 * 24 * 3_600_000;

/// Somebody who has left this number of rooms of one adder within [`DEPARTURE_MS`] is not added by them any more.
pub const DEPARTURES: usize = 3;

/// All there is to know of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub room_info: RoomInfo,
    /// Who is in it, oldest members first; nobody is listed for the lobby, where everybody is.
    pub members: Vec<Member>,
}

/// A room that is to be.
#[derive(Debug, Clone)]
pub struct NewRoom {
    /// Its name.
    pub name: RoomName,
    /// Its first member.
    pub owner: Username,
    /// See [`RoomInfo::private`].
    pub private: bool,
    /// See [`RoomInfo::ephemeral`].
    pub ephemeral: bool,
}

/// Called once when a change is durable, in commit order with every other change and append of a store. Not called when
/// nothing changed. Runs where the store commits.
pub type Committed = Box<dyn FnOnce() + Send>;

/// The store of rooms and memberships. The lobby always exists; everybody is in it without being listed, and none of these
/// changes it. An archived room is as good as absent.
///
/// A change is checked against the room as it is when it is written: another node may have changed the room since the caller
/// has read it.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Creates a room with its owner as the only member. The name of an ephemeral room that was archived, and of a private one that
    /// everybody has left, is given again: what was said there is deleted before, and the numbers of messages go on.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the name is taken, [`Error::Forbidden`] when the owner is in `limit` rooms already.
    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<RoomInfo, Error>;

    /// The room, if it exists.
    async fn find(&self, room: &RoomName) -> Result<Option<Entry>, Error>;

    /// The user's rooms by name, the lobby first.
    async fn rooms_of(&self, user: &Username) -> Result<Vec<RoomInfo>, Error>;

    /// Makes `user`, who asks for it, a member, the owner if there is none, and answers with the members; one who is in it stays
    /// what they are.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a room and for a private one, [`Error::Forbidden`] when the user has made or entered `limit` rooms already.
    async fn add(
        &self,
        room: &RoomName,
        user: &Username,
        limit: usize,
        committed: Committed,
    ) -> Result<Vec<Member>, Error>;

    /// Makes `user` a member because `by`, who owns the room, wants it, otherwise as [`Directory::add`]. This does not count against the
    /// rooms that the user may make and enter.
    ///
    /// # Errors
    /// As [`Entry::check_owner`]; [`Error::NotFound`] without such a room, [`Error::Forbidden`] beyond the limits, when the user has left this room within
    /// [`DEPARTURE_MS`], or when they have left [`DEPARTURES`] rooms into which `by` has added them.
    async fn add_by(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        limits: Additions,
        committed: Committed,
    ) -> Result<Vec<Member>, Error>;

    /// Ends a membership because the user wants it, otherwise as [`Directory::remove`]. When others had added them, that is kept for
    /// [`DEPARTURE_MS`] or until they enter the room themselves.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a room.
    async fn leave(
        &self,
        room: &RoomName,
        user: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error>;

    /// Ends a membership because `by`, who owns the room, wants it, and answers with the members left. The oldest member takes an
    /// owner's place; a private room that nobody is in any more is archived, because nobody could ever enter it.
    ///
    /// # Errors
    /// As [`Entry::check_owner`]; [`Error::NotFound`] without such a room.
    async fn remove(
        &self,
        room: &RoomName,
        user: &Username,
        by: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error>;

    /// Makes the room private or public because `by`, who owns it, wants it.
    ///
    /// # Errors
    /// As [`Entry::check_owner`]; [`Error::NotFound`] without such a room.
    async fn set_private(
        &self,
        room: &RoomName,
        by: &Username,
        private: bool,
        committed: Committed,
    ) -> Result<(), Error>;

    /// Ends the room because `by`, who owns it, wants it; its messages stay, and its name unless it is ephemeral.
    ///
    /// # Errors
    /// As [`Entry::check_owner`]; [`Error::NotFound`] without such a room.
    async fn archive(&self, room: &RoomName, by: &Username, committed: Committed) -> Result<(), Error>;
}

/// Why somebody may not enter or change a room. One text for all backends.
pub(crate) mod refusal {
    use crate::Error;

    /// `kept` when strangers may know that an archived room has the name.
    pub fn taken(kept: bool) -> Error {
        Error::Conflict(match kept {
            true => "this name belongs to an archived room, which keeps it",
            false => "this name is taken: a room has it, or an archived room keeps it",
        })
    }

    pub fn not_member() -> Error {
        Error::Forbidden("only members of the room may do this")
    }

    pub fn not_owner() -> Error {
        Error::Forbidden("only the owner of the room may do this")
    }

    pub fn own() -> Error {
        Error::Forbidden("the user is a member of too many rooms")
    }

    pub fn added() -> Error {
        Error::Forbidden("others have added the user to too many rooms: only the user can enter more")
    }

    pub fn adder() -> Error {
        Error::Forbidden("you have added too many user_lookup to rooms: remove some first")
    }

    pub fn departed() -> Error {
        Error::Forbidden("the user has left this room: add them again after 7 days, or let them enter it")
    }

    pub fn avoided() -> Error {
        Error::Forbidden("the user has left several rooms that you added them to: try again after 7 days")
    }
}

/// What is still kept of departures has happened after this.
pub(crate) fn oldest_departure() -> Timestamp {
    Timestamp(sessions::ages::now().0.saturating_sub(DEPARTURE_MS))
}

impl Entry {
    /// Whether `user` may enter by themselves, or is in the room.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a private room.
    pub fn check_entry(&self, user: &Username) -> Result<(), Error> {
        if self.room_info.private && self.role(user).is_none() { Err(Error::NotFound) } else { Ok(()) }
    }

    /// Whether `user` owns the room.
    ///
    /// # Errors
    /// [`Error::Forbidden`]; [`Error::NotFound`] for a private room that the user is not in.
    pub fn check_owner(&self, user: &Username) -> Result<(), Error> {
        self.check_entry(user)?;
        match self.role(user) {
            Some(Role::Owner) => Ok(()),
            Some(Role::Member) => Err(refusal::not_owner()),
            None => Err(refusal::not_member()),
        }
    }

    fn role(&self, user: &Username) -> Option<Role> {
        self.members.iter().find(|member| member.username.key() == user.key()).map(|member| member.role)
    }
}

impl NewRoom {
    /// What it is then.
    pub(crate) fn room_info(&self) -> RoomInfo {
        let Self { name, owner, private, ephemeral } = self.clone();
        RoomInfo { name, private, ephemeral, owner: Some(owner) }
    }
}

impl RoomInfo {
    /// The lobby's.
    pub fn lobby() -> Self {
        Self { name: RoomName::lobby(), private: false, ephemeral: false, owner: None }
    }
}
