//! Where a room ends. Told by history, known to rooms, carried by the error that says so.

use proto::Timestamp;

/// Where a room ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The last message's `seq`; 0 when nothing was said yet.
    pub seq: u64,
    /// The last message's timestamp.
    pub timestamp: Timestamp,
}
