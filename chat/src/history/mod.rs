//! The store of messages: durable, and numbered in each room. Called by rooms, which append, and by clients and HTTP, which read.
//! Backends: [`sqlite`], [`mongo`]. Every backend passes `conformance.rs`. [`Journal`] reads the messages of all rooms in one order: with
//! SQLite from the same rows, in a cluster from another store.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod journal_conformance;
#[cfg(feature = "mongodb")]
pub mod mongo;
pub mod sqlite;
mod weight;

use std::sync::Arc;

use async_trait::async_trait;
use proto::{
    RoomName, Timestamp, Username,
    event::{Change, ClientId, MemberState, Message, Page},
};

pub use crate::head::RoomHead;
use crate::{Error, text::Text};
pub use weight::weight;

/// A message that is not stored yet. The store assigns its `seq`.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The id that the message has if it is stored.
    pub id: String,
    /// The author.
    pub author: Username,
    /// The text.
    pub text: Text,
    /// The id that the author's client has assigned, by which a resend is recognized.
    pub client_id: Option<ClientId>,
    /// The time of the message. The store raises it to the time of the room's last message, see [`Timestamp::after`].
    pub timestamp: Timestamp,
    /// The socket that sent the message. The message is not delivered to it.
    pub origin: Option<String>,
}

/// The result of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The message was stored.
    Stored {
        /// Its number in the room.
        seq: u64,
        /// Its offset in the log of all rooms. `None` when the log is another store, to which the message is appended afterwards.
        offset: Option<u64>,
    },
    /// The author has stored a message with the same `client_id` and text before.
    Duplicate {
        /// The first message's id.
        id: String,
        /// The first message's number in the room.
        seq: u64,
    },
    /// The author has stored a message with the same `client_id` and another text before.
    Conflict,
}

/// The result of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The results of the drafts, in the order of the batch.
    pub outcomes: Vec<Outcome>,
    /// The room's head after the batch.
    pub head: RoomHead,
}

/// Messages after a `seq`, and the room's head. There are more messages when the last one is not at `head`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Oldest first.
    pub messages: Vec<StoredMessage>,
    /// The room's last `seq`.
    pub head: u64,
}

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// The message.
    pub message: Message,
    /// The socket that sent the message. The message is not delivered to it.
    pub origin: Option<String>,
}

/// All messages and changes that a client has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The messages with their offsets, in the order of the log.
    pub messages: Vec<(u64, Message)>,
    /// The changes with their offsets, in the order of the log. Each changed part of a room is in one of them, in its present state.
    pub changes: Vec<(u64, MissedChange)>,
    /// The last offset of the log at the time of the read.
    pub reached: u64,
}

/// A change that a client has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedChange {
    /// The event.
    pub change: Change,
    /// The memberships among its items that have begun or ended since the client's position.
    pub memberships: Vec<MemberState>,
    /// Whether no more changes follow that have the same offset.
    pub is_last: bool,
}

/// The client that has missed messages and changes.
#[derive(Debug, Clone, Copy)]
pub struct MissedBy<'a> {
    /// The client's user.
    pub user: &'a Username,
    /// The rooms that the user is in.
    pub rooms: &'a [RoomName],
    /// The client's socket. Messages that it has sent are left out.
    pub socket: &'a str,
}

/// Callback that runs once when a batch is durable, before [`History::append`] returns. If the store is also the log, the callback runs
/// where the store commits, in commit order with all other appends. It must not block, because it delays every writer.
pub type Committed = Box<dyn FnOnce(&Appended) + Send>;

/// The store of messages.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// Stores `drafts` in their order with the numbers `head + 1`, `head + 2`, ... of `room`. They are durable when this returns. A draft
    /// whose author has used its `client_id` in this room before is not assigned a number.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the room's head is not at `head`; nothing was stored. [`Error::Store`] when the outcome is unknown: the
    /// batch, or the first part of it, may be stored later, so the head must be read again before the next batch.
    async fn append(
        &self,
        room: &RoomName,
        head: u64,
        drafts: Arc<[Draft]>,
        committed: Committed,
    ) -> Result<Appended, Error>;

    /// Returns at most `limit` messages with `after < seq < before`, newest first. Fewer are returned when they would exceed
    /// [`crate::config::ANSWER_BYTES`].
    async fn page(
        &self,
        room: &RoomName,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Page, Error>;

    /// Returns at most `max` messages after `seq`, oldest first. Fewer are returned when they would exceed
    /// [`crate::config::ANSWER_BYTES`].
    async fn since(&self, room: &RoomName, seq: u64, max: usize) -> Result<Slice, Error>;

    /// Returns the room's head. For a room without messages it is the default.
    async fn head(&self, room: &RoomName) -> Result<RoomHead, Error>;

    /// Returns the smallest `seq` that is stored; one more than the head for a room without messages.
    async fn first(&self, room: &RoomName) -> Result<u64, Error>;

    /// Deletes messages of `room`: all but the last `keep`, those before `oldest`, and those after [`Timestamp::latest`], whose time is
    /// of a wrong clock. The last message is kept, because it is the head.
    async fn trim(&self, room: &RoomName, keep: u64, oldest: Timestamp) -> Result<(), Error>;

    /// Whether no message was ever stored in any room.
    async fn is_empty(&self) -> Result<bool, Error>;
}

/// Reads the messages of all rooms in the order of the log.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Returns all messages and changes after the offset `after` of the rooms that the client is in, and the changes of other rooms that
    /// have ended the client's own membership. `None` when some of them are no longer stored, when they are more than
    /// [`crate::config::RECOVERY`] or [`crate::config::RECOVERY_BYTES`], or when `after` is more than
    /// [`crate::config::RECOVERY_SCAN`] offsets back.
    async fn missed(&self, client: MissedBy<'_>, after: u64) -> Result<Option<Missed>, Error>;

    /// Returns the last offset of the log; 0 before the first message.
    async fn offset(&self) -> Result<u64, Error>;

    /// Returns the log's epoch. Offsets of different epochs cannot be compared.
    async fn epoch(&self) -> Result<String, Error>;
}
