//! The rooms of a cluster that have unpublished messages: stored, but missing in the stream. A node that cannot write to the stream notes
//! the room here, so that every other node delivers the messages from the store. [`crate::broker::stream`] reads the notes twice a second.
//! They are kept in the store of messages, because a node that cannot reach the stream has just written to that store. Backend: [`mongo`].

#[cfg(feature = "mongodb")]
pub mod mongo;

use async_trait::async_trait;
use proto::RoomName;

use crate::Error;

/// The maximum number of rooms that one call of [`Unpublished::all`] returns.
pub const AT_ONCE: usize = 1_024;

/// The unpublished messages of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The room.
    pub room: RoomName,
    /// The `seq` of the first message that may be unpublished.
    pub first: u64,
    /// The `seq` of the last one.
    pub last: u64,
}

/// The notes of unpublished messages. Each call fails with [`Error::Store`] when the store does not answer.
#[async_trait]
pub trait Unpublished: Send + Sync + 'static {
    /// Notes that messages `first` to `last` of `room` are unpublished, and merges the range with the room's note. Durable on return.
    async fn note(&self, room: &RoomName, first: u64, last: u64) -> Result<(), Error>;

    /// The rooms with unpublished messages, at most [`AT_ONCE`].
    async fn all(&self) -> Result<Vec<Noted>, Error>;

    /// Deletes the note of `room` if its last message is at most `seq`, because the stream has the messages up to `seq`.
    async fn resolve(&self, room: &RoomName, seq: u64) -> Result<(), Error>;
}
