//! The latest changes of each room, as the store of rooms keeps them beside the room itself. The nodes of a cluster read them
//! ([`crate::broker::stream`]), so a change reaches every node also when the log cannot carry it, and when the node that made it has
//! ended. Backend: [`crate::directory::mongo`].

use async_trait::async_trait;
use proto::{RoomName, Timestamp, Username};

use crate::Error;

/// The changes that a room keeps. The latest stay.
pub const KEPT: usize = 64;

/// The maximum number of rooms that one call of [`Changes::recent`] returns.
pub const AT_ONCE: usize = 4_096;

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The user became a member.
    Joined(Username),
    /// The membership of the user ended.
    Left(Username),
    /// A new room took the place of one that had ended, with this owner.
    Renewed(Username),
    /// The room ended.
    Archived,
    /// Anything that sockets need not follow.
    Other,
}

/// One change of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The version of the room after the change.
    pub version: u64,
    /// The time of the change by the clock of the node that made it.
    pub at: Timestamp,
    /// What it did.
    pub what: What,
    /// Whether this process made it.
    pub is_own: bool,
}

/// A room and its latest changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The room.
    pub room: RoomName,
    /// Its version.
    pub version: u64,
    /// Whether it has not ended.
    pub is_open: bool,
    /// Its latest changes, oldest first, at most [`KEPT`].
    pub changes: Vec<Change>,
}

/// See the module.
#[async_trait]
pub trait Changes: Send + Sync + 'static {
    /// Rooms that have changed within the last seconds, with their versions, latest first; at most [`AT_ONCE`].
    async fn recent(&self) -> Result<Vec<(RoomName, u64)>, Error>;

    /// The versions of these rooms. A room that does not exist is left out.
    async fn versions(&self, rooms: &[RoomName]) -> Result<Vec<(RoomName, u64)>, Error>;

    /// The latest changes of these rooms. A room that does not exist is left out.
    async fn of(&self, rooms: &[RoomName]) -> Result<Vec<Changed>, Error>;

    /// The members of a room; of one that was archived, the members at that time. Empty when there is no such room.
    async fn members(&self, room: &RoomName) -> Result<Vec<Username>, Error>;
}

impl Changed {
    /// Whether the latest change is among [`Changed::changes`]. Earlier releases change rooms without noting it.
    pub fn is_tracked(&self) -> bool {
        self.changes.last().is_some_and(|last| last.version == self.version)
    }

    /// The version of the latest change that did `what`.
    pub fn version_of(&self, what: impl Fn(&What) -> bool) -> Option<u64> {
        self.changes.iter().rev().find(|change| what(&change.what)).map(|change| change.version)
    }

    /// The users that the kept changes name, each with whether they are a member after the last of these changes.
    pub fn users(&self) -> Vec<(Username, bool)> {
        let mut users: Vec<(Username, bool)> = Vec::new();
        for change in &self.changes {
            let (user, is_in) = match &change.what {
                What::Joined(user) | What::Renewed(user) => (user, true),
                What::Left(user) => (user, false),
                What::Archived | What::Other => continue,
            };
            if matches!(change.what, What::Renewed(_)) {
                users.iter_mut().for_each(|(_, is_in)| *is_in = false);
            }
            users.retain(|(known, _)| known.key() != user.key());
            users.push((user.clone(), is_in));
        }
        if !self.is_open {
            users.iter_mut().for_each(|(_, is_in)| *is_in = false);
        }
        users
    }
}
