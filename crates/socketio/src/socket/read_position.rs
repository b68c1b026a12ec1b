//! How far a client that has left has read the log. Recovery continues from there if the client sends no
//! offset. The socket records the positions that it sends; [`crate::recovery`] and applications read them.

use super::Socket;

/// The log position that a client had received when it left, as far as the server can determine it
/// ([`Socket::read_position`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadPosition<P = u64> {
    /// The client closed the connection, and received no event of the log on it.
    Start,
    /// The client closed the connection after it had received all events up to this [`crate::Encoded::at`]
    /// position, and no later event.
    At(P),
    /// Undetermined: the connection is open, or was lost, or events were queued when it closed.
    Unknown,
}

impl Socket {
    /// The log position of a client that has left. Call it in [`crate::Peer::closed`].
    pub fn read_position(&self) -> ReadPosition {
        match self.0.last_position.get() {
            _ if !self.0.connection.client_closed_after(self.0.last_position_push.get()) => {
                ReadPosition::Unknown
            }
            Some(position) => ReadPosition::At(position),
            None => ReadPosition::Start,
        }
    }

    /// Records that the log up to `position` was sent.
    pub(super) fn record_position(&self, position: Option<u64>) {
        self.0.last_position.set(self.0.last_position.get().max(position));
        self.0.last_position_push.set(self.0.connection.pushed());
    }
}

#[cfg(test)]
#[path = "read_position_tests.rs"]
mod tests;
