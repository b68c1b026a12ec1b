//! The text of positions: the offsets of clients.

use super::ClientOffset;
use crate::socket::Position;

impl Position {
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
