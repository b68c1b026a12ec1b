//! What was said: the durable, numbered messages of every room. Rooms append, clients and HTTP read. Backends: [`sqlite`],
//! [`mongo`]; every backend passes `conformance.rs`. Where everything is in one order, and how it is read again, is [`Journal`]'s: of
//! SQLite the same rows, in a cluster another store.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod journal_conformance;
pub mod mongo;
pub mod sqlite;
mod weight;

use std::sync::Arc;

use async_trait::async_trait;
use proto::{
    RoomName, Timestamp, Username,
    event::{ClientId, Message, Page},
};

pub use crate::head::Head;
use crate::{Error, text::Text};
pub use weight::weight;

/// A message that wants to be stored. Its place is given by the store.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The message's id, if it is stored.
    pub id: String,
    /// Who says it.
    pub author: Username,
    /// What.
    pub text: Text,
    /// The author's own id of it.
    pub client_id: Option<ClientId>,
    /// When; never before the room's last message.
    pub timestamp: Timestamp,
    /// The socket it comes from, which does not get it again.
    pub origin: Option<String>,
}

/// What became of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is a message now.
    Stored {
        /// Its place in the room.
        seq: u64,
        /// Its place in the log of all rooms; none when the log is another store, which has yet to hear of it.
        offset: Option<u64>,
    },
    /// The author has said it before, under the same `client_id`: the first message.
    Duplicate {
        /// The first message's id.
        id: String,
        /// The first message's place.
        seq: u64,
    },
    /// The author has said something else under this `client_id`.
    Conflict,
    /// The text is over the limit, and the author has not said it before.
    TooLarge,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// One for each draft, in their order.
    pub outcomes: Vec<Outcome>,
    /// Where the room ends now.
    pub head: Head,
}

/// Messages after a `seq`, and how far the room goes: when the last of them is not at `head`, there are more.
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
    /// The socket it came from, which does not get it when it is told again.
    pub origin: Option<String>,
}

/// All that a client has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// With their offsets, in the log's order.
    pub messages: Vec<(u64, Message)>,
    /// The log's last offset as it was read.
    pub reached: u64,
}

/// Called once when a batch is durable, before its append answers. Where the store is the log too, it is called in commit order
/// among all appends and runs where the store commits: what it does holds up every writer.
pub type Committed = Box<dyn FnOnce(&Appended) + Send>;

/// The store of messages.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// Stores `drafts` in their order as `head + 1`, `head + 2`, ... of `room`, all of them durably when this answers. A draft
    /// whose author has used its `client_id` in this room before takes no number.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the room does not end at `head`: nothing was stored. [`Error::Store`] when the outcome is
    /// unknown: the batch may be stored later, whole or its beginning, so the head must be read again before the next one.
    async fn append(
        &self,
        room: &RoomName,
        head: u64,
        drafts: Arc<[Draft]>,
        committed: Committed,
    ) -> Result<Appended, Error>;

    /// At most `limit` messages with `after < seq < before`, newest first, and fewer when they weigh too much for one answer.
    async fn page(
        &self,
        room: &RoomName,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Page, Error>;

    /// At most `max` messages with a larger `seq`, oldest first, and fewer when they weigh too much for one answer.
    async fn since(&self, room: &RoomName, seq: u64, max: usize) -> Result<Slice, Error>;

    /// Where the room ends; the default for a room without messages.
    async fn head(&self, room: &RoomName) -> Result<Head, Error>;

    /// Forgets all but the last `keep` messages of `room`, those before `oldest`, and those after [`Timestamp::latest`], which a
    /// wrong clock has dated. The last message stays, because it is the head.
    async fn trim(&self, room: &RoomName, keep: u64, oldest: Timestamp) -> Result<(), Error>;

    /// Whether nothing was ever said in any room.
    async fn is_empty(&self) -> Result<bool, Error>;
}

/// The one order of all rooms' messages, as it can be read again.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// All messages of `rooms` with a larger offset but those from the socket `origin`. None when that is not all there was, or
    /// too much: more than [`crate::config::RECOVERY`] messages or [`crate::config::RECOVERY_BYTES`], or from too far back.
    async fn missed(&self, rooms: &[RoomName], after: u64, origin: &str) -> Result<Option<Missed>, Error>;

    /// The last offset, over all rooms; 0 before the first message.
    async fn offset(&self) -> Result<u64, Error>;

    /// The epoch: another one means that offsets from before say nothing.
    async fn epoch(&self) -> Result<String, Error>;
}
