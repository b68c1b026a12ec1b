//! Which rooms there are and who is in them. Rooms change their own entry, HTTP creates and lists, guests ask where a user
//! is. Backends: [`sqlite`], [`mongo`]; every backend passes `conformance.rs`.

#[cfg(test)]
mod conformance;
pub mod mongo;
pub mod sqlite;

use async_trait::async_trait;
use proto::{RoomName, Username};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What a room is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Card {
    /// Its name, unique for ever: an archived room keeps it.
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
}

/// All there is to know of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub card: Card,
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
    /// See [`Card::private`].
    pub private: bool,
    /// See [`Card::ephemeral`].
    pub ephemeral: bool,
}

/// Called once when a change is durable, in commit order with every other change and append of a store. Not called when
/// nothing changed. Runs where the store commits.
pub type Committed = Box<dyn FnOnce() + Send>;

/// The store of rooms and memberships. The lobby always exists; everybody is in it without being listed, and none of these
/// changes it. An archived room is as good as absent.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Creates a room with its owner as the only member.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the name is taken, [`Error::Forbidden`] when the owner is in `limit` rooms already.
    async fn create(&self, room: NewRoom, limit: usize, committed: Committed) -> Result<Card, Error>;

    /// The room, if it exists.
    async fn find(&self, room: &RoomName) -> Result<Option<Entry>, Error>;

    /// The user's rooms by name, the lobby first.
    async fn rooms_of(&self, user: &Username) -> Result<Vec<Card>, Error>;

    /// Makes `user` a member, the owner if there is none, and answers with the members; one who is in it stays what they are.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a room, [`Error::Forbidden`] when the user is in `limit` rooms already.
    async fn add(
        &self,
        room: &RoomName,
        user: &Username,
        limit: usize,
        committed: Committed,
    ) -> Result<Vec<Member>, Error>;

    /// Ends a membership and answers with the members left. The oldest member takes an owner's place; a private room that
    /// nobody is in any more is archived, because nobody could ever enter it.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a room.
    async fn remove(
        &self,
        room: &RoomName,
        user: &Username,
        committed: Committed,
    ) -> Result<Vec<Member>, Error>;

    /// Makes the room private or public.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a room.
    async fn set_private(&self, room: &RoomName, private: bool, committed: Committed) -> Result<(), Error>;

    /// Ends the room; its messages and its name stay.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a room.
    async fn archive(&self, room: &RoomName, committed: Committed) -> Result<(), Error>;
}

impl Card {
    /// The lobby's.
    pub fn lobby() -> Self {
        Self { name: RoomName::lobby(), private: false, ephemeral: false, owner: None }
    }
}
