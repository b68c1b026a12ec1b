//! A change with its room and its number.

use proto::RoomName;

use super::changes::ChangeEntry;

/// A change that a transaction writes.
pub(super) struct Numbered<'a> {
    /// The room.
    pub room: &'a RoomName,
    /// The number of the change before; 0 for the creation of a room.
    pub before: i64,
    /// The change.
    pub entry: &'a ChangeEntry,
}
