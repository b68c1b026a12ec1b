//! The latest changes of each room, which the store of rooms keeps with the room. The nodes of a cluster read them
//! ([`crate::broker::stream`]), so a change reaches every node even when it cannot be announced in the stream, and when the node that
//! made it has ended. Backend: [`crate::directory::mongo`].

use async_trait::async_trait;
use proto::{RoomName, Timestamp, Username, event::Item};

use crate::{
    Error,
    room_change::{ChangeKind, ChangesSince},
};

/// The number of changes that a room keeps. The oldest are deleted.
pub const KEPT: usize = 64;

/// The maximum number of rooms that one call of [`Changes::recent`] returns.
pub const AT_ONCE: usize = 4_096;

/// One change of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The version of the room after the change.
    pub version: u64,
    /// The time of the change by the clock of the node that made it.
    pub at: Timestamp,
    /// The kind of the change.
    pub what: ChangeKind,
    /// The user that made the change. `None` for empty changes.
    pub by: Option<Username>,
    /// The changed parts of the room in their state after the change.
    pub items: Vec<Item>,
    /// Whether this process made the change.
    pub is_own: bool,
}

/// A room and its latest changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The room.
    pub room: RoomName,
    /// The version of the room.
    pub version: u64,
    /// Whether it has not ended.
    pub is_open: bool,
    /// The latest changes, oldest first, at most [`KEPT`].
    pub changes: Vec<Change>,
}

/// The latest changes of all rooms. Each call fails with [`Error::Store`] when the store does not answer.
#[async_trait]
pub trait Changes: Send + Sync + 'static {
    /// Rooms that have changed within the last seconds, with their versions, latest first; at most [`AT_ONCE`].
    async fn recent(&self) -> Result<Vec<(RoomName, u64)>, Error>;

    /// The versions of these rooms. A room that does not exist is omitted.
    async fn versions(&self, rooms: &[RoomName]) -> Result<Vec<(RoomName, u64)>, Error>;

    /// The latest changes of these rooms. A room that does not exist is omitted.
    async fn of(&self, rooms: &[RoomName]) -> Result<Vec<Changed>, Error>;

    /// The parts of a room that have changed after the change `rev`, as [`crate::directory::Directory::changes_since`].
    async fn since(&self, room: &RoomName, rev: u64) -> Result<Option<ChangesSince>, Error>;

    /// The members of a room. For an archived room, the members at that time. Empty when the room does not exist.
    async fn members(&self, room: &RoomName) -> Result<Vec<Username>, Error>;
}
