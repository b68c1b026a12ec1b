//! Which rooms have messages that the log of a cluster lacks. A node that cannot write to the log notes its room here, so that
//! every other node delivers the messages from the store within [`crate::broker::stream`]'s bound. StoredMessage in the store of messages:
//! whatever keeps a node from the log, it has just written to that store. Backend: [`mongo`].

pub mod mongo;

use async_trait::async_trait;
use proto::RoomName;

use crate::Error;

/// The maximum number of rooms that one look returns.
pub const AT_ONCE: usize = 1_024;

/// What the log lacks of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The room.
    pub room: RoomName,
    /// The first message that it may lack.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// See the module.
#[async_trait]
pub trait Unpublished: Send + Sync + 'static {
    /// The log lacks messages of `room`, from `first` up to `last`. Joined with what is noted of the room. Durable when it answers.
    async fn note(&self, room: &RoomName, first: u64, last: u64) -> Result<(), Error>;

    /// Rooms whose messages the log lacks; at most [`AT_ONCE`].
    async fn all(&self) -> Result<Vec<Noted>, Error>;

    /// The log has the messages of `room` up to `seq`.
    async fn settled(&self, room: &RoomName, seq: u64) -> Result<(), Error>;
}
