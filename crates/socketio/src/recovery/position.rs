//! Positions in the log, and their text: the offsets of clients.
//!
//! Broadcasts are numbered when they are published, and every worker applies them in this order. An event to
//! one socket is sent at once, between two broadcasts. So each client receives its events in the order of their
//! positions, and an offset covers everything before it.

use super::ClientOffset;

/// A position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// The number of the broadcast, or of the last one that the socket's worker has applied before an event to
    /// one socket.
    pub(crate) broadcast: u64,
    /// The number of the event to one socket. 0 for a broadcast.
    pub(crate) direct: u64,
}

impl Position {
    /// The position of a broadcast.
    pub(crate) fn broadcast(number: u64) -> Self {
        Self { broadcast: number, direct: 0 }
    }

    /// The offset of this position in the log `epoch`.
    pub(super) fn offset(self, epoch: &str) -> String {
        let Self { broadcast, direct } = self;
        if direct == 0 { format!("{epoch}.{broadcast}") } else { format!("{epoch}.{broadcast}.{direct}") }
    }

    /// Parses an offset. `epoch` is the id of the current log.
    pub(super) fn parse(offset: &str, epoch: &str) -> ClientOffset<Self> {
        let Some((log, position)) = offset.split_once('.') else { return ClientOffset::Invalid };
        let (broadcast, direct) = position.split_once('.').unwrap_or((position, "0"));
        match (broadcast.parse(), direct.parse()) {
            (Ok(broadcast), Ok(direct)) if log == epoch => ClientOffset::At(Self { broadcast, direct }),
            (Ok(_), Ok(_)) if log.len() == epoch.len() => ClientOffset::OtherLog,
            _ => ClientOffset::Invalid,
        }
    }
}
