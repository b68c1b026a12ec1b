//! Connection state recovery: a client that reconnects within a window gets its socket id, its rooms and the
//! events that it has missed. [`Recovery`] turns it on for every namespace of an application, with a [`log`] of
//! the process. An application with a log of its own decides with [`ClientOffset`] where its replay starts.

mod events;
mod log;
mod position;
mod session;
mod start;

use std::time::Duration;

pub(crate) use self::{log::Log, position::Position, session::Leaving, start::Start};
use crate::socket::ReadPosition;

/// Connection state recovery in memory ([`crate::Config::recovery`]), as `connectionStateRecovery` of the
/// reference implementation. A session is recovered whole or not at all. Nothing survives a restart of the
/// process.
///
/// Every event that is sent over [`crate::Io`] or [`crate::Socket::emit`] is stored, and the client receives its
/// offset as an additional last argument. Volatile events and events that request an ack are not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How long a disconnected session can be recovered, and an event is kept.
    pub window: Duration,
    /// The largest number of disconnected sessions. Beyond it the session that was disconnected first is
    /// dropped. A session in more than 1,024 rooms is not kept.
    pub max_sessions: usize,
    /// The largest number of events. Beyond it the oldest is dropped.
    pub max_events: usize,
    /// The largest size of all events in bytes, each with 128 bytes for its place. Beyond it the oldest is
    /// dropped.
    pub max_bytes: usize,
}

impl Recovery {
    /// Two minutes, 10,000 sessions, 100,000 events, 64 MiB. A client that has missed more bytes than
    /// [`crate::Config::send_queue_bytes`] starts a new session.
    pub fn in_memory() -> Self {
        Self {
            window: Duration::from_secs(120),
            max_sessions: 10_000,
            max_events: 100_000,
            max_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Default for Recovery {
    fn default() -> Self {
        Self::in_memory()
    }
}

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
