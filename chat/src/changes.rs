//! The latest changes of each room, which the store of rooms keeps with the room. The nodes of a cluster read them
//! ([`crate::broker::stream`]), so a change reaches every node also when it cannot be announced in the stream, and when the node that
//! made it has ended. Backend: [`crate::directory::mongo`].

use async_trait::async_trait;
use proto::{RoomName, Timestamp, Username};

use crate::Error;

/// The number of changes that a room keeps. The oldest are deleted.
pub const KEPT: usize = 64;

/// The maximum number of rooms that one call of [`Changes::recent`] returns.
pub const AT_ONCE: usize = 4_096;

/// The kind of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// The user became a member.
    Joined(Username),
    /// The membership of the user ended.
    Left(Username),
    /// A new room took the place of one that had ended, with this owner.
    Renewed(Username),
    /// The room ended.
    Archived,
    /// Any change that does not concern sockets.
    Other,
}

/// One change of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The version of the room after the change.
    pub version: u64,
    /// The time of the change by the clock of the node that made it.
    pub at: Timestamp,
    /// The kind of the change.
    pub what: ChangeKind,
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

    /// The members of a room. For an archived room, the members at that time. Empty when the room does not exist.
    async fn members(&self, room: &RoomName) -> Result<Vec<Username>, Error>;
}

impl Changed {
    /// Whether the latest change is in [`Changed::changes`]. Earlier releases change rooms without an entry there.
    pub fn is_tracked(&self) -> bool {
        self.changes.last().is_some_and(|last| last.version == self.version)
    }

    /// The version of the latest change of a kind that `what` accepts.
    pub fn version_of(&self, what: impl Fn(&ChangeKind) -> bool) -> Option<u64> {
        self.changes.iter().rev().find(|change| what(&change.what)).map(|change| change.version)
    }

    /// The users in [`Changed::changes`], each with whether the user is a member after the last of these changes.
    pub fn users(&self) -> Vec<(Username, bool)> {
        let mut users: Vec<(Username, bool)> = Vec::new();
        for change in &self.changes {
            let (user, is_member) = match &change.what {
                ChangeKind::Joined(user) | ChangeKind::Renewed(user) => (user, true),
                ChangeKind::Left(user) => (user, false),
                ChangeKind::Archived | ChangeKind::Other => continue,
            };
            if matches!(change.what, ChangeKind::Renewed(_)) {
                users.iter_mut().for_each(|(_, is_member)| *is_member = false);
            }
            users.retain(|(other, _)| other.key() != user.key());
            users.push((user.clone(), is_member));
        }
        if !self.is_open {
            users.iter_mut().for_each(|(_, is_member)| *is_member = false);
        }
        users
    }
}
