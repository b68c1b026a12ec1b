//! Connection state recovery: a client that reconnects within a window gets its socket id, its rooms and the
//! events that it has missed. [`crate::Recovery`] turns it on for all namespaces of an application, with a [`log`]
//! of the process. An application with a log of its own decides with [`ClientOffset`] where its replay starts.

mod events;
mod log;
mod position;
mod session;

pub(crate) use self::log::{Log, Resuming};
use crate::socket::ReadPosition;

/// The offset of a client ([`crate::Resume::offset`]), parsed. `P` is a position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientOffset<P = u64> {
    /// A position in the log: of the last event that the client has received.
    At(P),
    /// A position in another log, or in an earlier one.
    OtherLog,
    /// Not an offset. Stock clients store the last argument of any event as offset if it is a string.
    Invalid,
}

impl<P> ClientOffset<P> {
    /// The position after which the replay to a client starts. `offset` is the client's offset, `since` the
    /// position at which its session began, `read` how far the client had read when it left.
    ///
    /// # Errors
    /// Why the client cannot be recovered.
    pub fn replay_start(offset: Option<Self>, since: P, read: ReadPosition<P>) -> Result<P, &'static str> {
        match (offset, read) {
            // The client has received no event.
            (None, _) | (Some(Self::Invalid), ReadPosition::Start) => Ok(since),
            (Some(Self::At(position)), _) | (Some(Self::Invalid), ReadPosition::At(position)) => Ok(position),
            (Some(Self::OtherLog), _) => Err("the offset belongs to another log"),
            (Some(Self::Invalid), ReadPosition::Unknown) => Err("the read position is unknown"),
        }
    }
}

#[cfg(test)]
mod tests;
