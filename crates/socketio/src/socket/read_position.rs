//! How far in a log a client has read that has left: what recovery goes on from when the client itself does not know. The
//! socket notes what it sends of the log; [`crate::InMemoryRecovery`] and applications ask.

use super::Socket;

/// Where in the log a client is that has left, by what this side saw ([`Socket::read_position`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadPosition {
    /// It closed the connection and was sent nothing of the log on it.
    Start,
    /// It closed the connection when it had everything up to this [`crate::Encoded::at`] position, and nothing behind it.
    At(u64),
    /// Nobody can say: it is still there, it was cut, or something was waiting for it.
    Unknown,
}

impl Socket {
    /// Where a client that has left is in the log. Ask in [`crate::Peer::closed`].
    pub fn read_position(&self) -> ReadPosition {
        match self.0.reached.get() {
            _ if !self.0.connection.client_closed_after(self.0.last_position_push.get()) => {
                ReadPosition::Unknown
            }
            Some(position) => ReadPosition::At(position),
            None => ReadPosition::Start,
        }
    }

    /// The client was sent the log up to `position` just now.
    pub(super) fn record_position(&self, position: Option<u64>) {
        self.0.reached.set(self.0.reached.get().max(position));
        self.0.last_position_push.set(self.0.connection.pushed());
    }
}

#[cfg(test)]
#[path = "read_position_tests.rs"]
mod tests;
