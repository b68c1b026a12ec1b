//! The head of a room: its last message. Returned by history, cached by rooms, and part of the error of a fenced append.

use proto::Timestamp;

/// The head of a room: the `seq` and timestamp of its last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomHead {
    /// The `seq` of the last message; 0 when the room has no message.
    pub seq: u64,
    /// The timestamp of the last message.
    pub timestamp: Timestamp,
}
