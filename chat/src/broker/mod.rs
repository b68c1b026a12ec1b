//! Delivers all events to the sockets of this node in one order. Rooms append what their stores have committed, the presence relay
//! appends the online and typing users, and [`fanout_actor`] sends the entries to the sockets. Clients read the position. In a
//! cluster, messages of rooms are published to the [`stream`] that all nodes read, and are delivered from there.

mod entry;
mod fanout;
pub mod fanout_actor;
mod room_backpressure;
pub mod stream;
mod stream_position;
#[cfg(test)]
mod tests;
mod typing;

use std::sync::{Arc, atomic::Ordering};

use proto::{RoomName, event::Message};
use socketio::{Encoded, SocketId};
use supervision::BusyTimer;
use tokio::sync::mpsc;

use self::room_backpressure::RoomTokens;
use crate::{
    Error,
    directory::RoomChange,
    history::{Journal, Missed, MissedBy, MissedChange, StoredMessage},
};
pub use entry::Entry;
pub use fanout::{encode, member_sockets, presence_unknown, session_sockets, user_sockets};
pub use room_backpressure::PendingBatch;
pub use stream::{MAX_AGE, RevWatch, Stream};
pub use stream_position::{ParsedOffset, StreamPosition};

/// The maximum number of queued entries: at most 8 MiB at the default text limit.
const QUEUE: usize = 1024;

/// The handle of the broker. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    entries: mpsc::Sender<Entry>,
    position: Arc<StreamPosition>,
    journal: Arc<dyn Journal>,
    /// Runs while a batch is on its way to the sockets.
    work: Arc<BusyTimer>,
    tokens: RoomTokens,
    /// The stream of a cluster. `None` in one process, where the store of messages is the log.
    stream: Option<Arc<Stream>>,
}

impl Broker {
    /// A broker of one process that continues at the end of `journal`, and its queue, for [`fanout_actor::start`].
    ///
    /// # Errors
    /// [`Error::Store`] when the store does not answer.
    pub async fn open(journal: Arc<dyn Journal>) -> Result<(Self, mpsc::Receiver<Entry>), Error> {
        let (epoch, offset) = (journal.epoch().await?, journal.offset().await?);
        let position = Arc::new(StreamPosition::new(&epoch, offset));
        let (entries, queue) = mpsc::channel(QUEUE);
        let tokens = RoomTokens::default();
        Ok((Self { entries, position, journal, work: Arc::default(), tokens, stream: None }, queue))
    }

    /// The broker of a node of a cluster, its queue, for [`fanout_actor::start`], and the sender for [`stream::follow`].
    pub fn shared(opened: &stream::Opened) -> (Self, mpsc::Receiver<Entry>, mpsc::Sender<Entry>) {
        let (entries, queue) = mpsc::channel(QUEUE);
        let stream = opened.stream.clone();
        let (journal, position) = (stream.clone(), opened.position.clone());
        let broker = Self {
            entries: entries.clone(),
            position,
            journal,
            work: Arc::default(),
            tokens: RoomTokens::default(),
            stream: Some(stream),
        };
        (broker, queue, entries)
    }

    /// Whether this is a node of a cluster: other nodes may write to the same rooms.
    pub fn is_shared(&self) -> bool {
        self.stream.is_some()
    }

    /// The reason for which the stream is not followed, in words that follow "the log". `None` when it is followed. For `/readyz`.
    pub fn not_ready_reason(&self) -> Option<String> {
        self.stream.as_ref().and_then(|stream| stream.not_ready_reason())
    }

    /// Publishes messages that one room has stored. Does nothing in one process, where the store is the log.
    ///
    /// # Errors
    /// As [`Stream::publish`].
    pub async fn publish(&self, room: &RoomName, messages: Vec<StoredMessage>) -> Result<(), Error> {
        match &self.stream {
            Some(stream) => stream.publish(room, messages).await,
            None => Ok(()),
        }
    }

    /// Closes a socket on every node, because its client has reconnected. Resolves when this node has closed it.
    pub async fn supersede(&self, socket: &SocketId) {
        self.send(Entry::Superseded(socket.clone())).await;
        if let Some(stream) = &self.stream {
            stream.announce_superseded(socket).await;
        }
        self.flush_local().await;
    }

    /// Publishes a change that a store has just committed. Called on the store's own thread, in commit order. In a cluster it is delivered
    /// from the stream.
    pub fn publish_change(&self, change: RoomChange) {
        match &self.stream {
            Some(stream) => stream.publish_change(&change),
            None => {
                self.append(Entry::Change { offset: change.offset, is_last: true, change: Box::new(change) });
            }
        }
    }

    /// Waits until the change `rev` of a room is on its way to the sockets of this node. The wait is bounded. There is no change 0.
    pub async fn wait_for_change(&self, room: &RoomName, rev: u64) {
        if let Some(stream) = self.stream.as_ref().filter(|_| rev > 0) {
            stream.wait_for_change(room, rev).await;
        }
    }

    /// The latest version of a room that this node has read from the store. `None` in one process, where no other node changes the room.
    pub fn watch_rev(&self, room: &RoomName) -> Option<RevWatch> {
        self.stream.as_ref().map(|stream| stream.watch_rev(room))
    }

    /// Subscribes this node to rooms. To be called before its sockets join them. Returns whether the members of the rooms must be read
    /// again, as [`Stream::subscribe`] does.
    ///
    /// # Errors
    /// As [`Stream::subscribe`].
    pub async fn subscribe(&self, rooms: &[RoomName]) -> Result<bool, Error> {
        match &self.stream {
            Some(stream) => stream.subscribe(rooms).await,
            None => Ok(false),
        }
    }

    /// Subscribes this node to a room that was just created. To be called before its sockets join it.
    /// `rev` is the change that has created it.
    pub fn subscribe_new(&self, room: &RoomName, rev: u64) {
        if let Some(stream) = &self.stream {
            stream.subscribe_new(room, rev);
        }
    }

    /// The number of messages that this node has delivered without an offset, from history.
    pub fn fallback_deliveries(&self) -> u64 {
        self.stream.as_ref().map_or(0, |stream| stream.fallback_deliveries())
    }

    /// Whether this node may have delivered any of these messages without an offset, after the first `count` such deliveries. A client
    /// that was in the room at that time has the message already.
    pub fn may_be_fallback_delivery<'a>(
        &self,
        messages: impl Iterator<Item = &'a Message>,
        count: u64,
    ) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.may_be_fallback_delivery(messages, count))
    }

    /// Appends an entry that a store has just committed. Called on the store's own thread, in commit order.
    ///
    /// Blocks in one process while the queue is full, and with it all writes of the chat. The writes then wait for the sockets'
    /// workers, and rooms refuse their senders in time. To drop the entry instead would break the order. The wait is short, because a
    /// worker takes a batch without waiting for a client.
    ///
    /// Drops the entry in a cluster while the queue is full.
    pub fn append(&self, entry: Entry) {
        self.position.count_membership_change(&entry);
        let full = match self.entries.try_send(entry) {
            Err(mpsc::error::TrySendError::Full(entry)) => entry,
            // Closed: the process ends, and clients will read stored messages from history.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
        };
        metrics::counter!("godzilla_chat_broker_queue_full_total").increment(1);
        if self.stream.is_some() {
            // This thread must not block. The change is applied again from the stream, or when the node compares rooms with the store.
            return;
        }
        let _ = self.entries.blocking_send(full);
    }

    /// Appends an entry that no store commits. Waits while the queue is full.
    pub async fn send(&self, entry: Entry) {
        let _ = self.entries.send(entry).await;
    }

    /// Waits until everything that this node has published or appended so far was delivered to its sockets. The wait for the stream
    /// is bounded.
    pub async fn flush(&self) {
        if let Some(stream) = &self.stream {
            stream.flush().await;
        }
        self.flush_local().await;
    }

    /// As [`Broker::wait_for_change`], for a reader: it does not wait if no socket of this node is in the room.
    pub async fn wait_if_subscribed(&self, room: &RoomName, rev: u64) {
        if let Some(stream) = self.stream.as_ref().filter(|_| rev > 0) {
            stream.wait_if_subscribed(room, rev).await;
        }
    }

    /// Waits until the records of all changes that this node has committed are in the stream. The wait is bounded.
    pub async fn flush_changes(&self) {
        if let Some(stream) = &self.stream {
            stream.wait_until_announced().await;
        }
    }

    /// Waits until all entries that were appended so far were delivered to the sockets of this node.
    pub async fn flush_local(&self) {
        let (done, mut flushed) = mpsc::channel(1);
        let _ = self.entries.send(Entry::Flushed(done)).await;
        let _ = flushed.recv().await;
    }

    /// Registers a batch of a room, before it is written.
    pub fn begin_batch(&self, room: &RoomName) -> PendingBatch {
        self.tokens.begin(room)
    }

    /// The backpressure token of the room's batch in flight.
    #[cfg(test)]
    pub fn backpressure_token(&self, room: &RoomName) -> Option<socketio::BackpressureToken> {
        self.tokens.of(room)
    }

    /// Whether the queue is open and no batch has been in flight for longer than [`fanout_actor::SLOW`].
    pub fn is_open(&self) -> bool {
        !self.entries.is_closed() && !self.work.is_busy_longer_than(fanout_actor::SLOW)
    }

    /// The number of membership changes so far. A socket that joins the rooms of its user compares it before and after, because a
    /// change in between was applied to the sockets of that time only.
    pub fn membership_changes(&self) -> u64 {
        self.position.memberships.load(Ordering::Acquire)
    }

    /// The offset up to which all entries were delivered to the sockets. A socket that joins a room after this call receives all later
    /// messages.
    pub fn reached(&self) -> u64 {
        self.position.reached()
    }

    /// The text of an offset. Clients treat it as opaque.
    pub fn format_offset(&self, offset: u64) -> String {
        self.position.format(Some(offset))
    }

    /// The id of the stores. It changes when they are restored from a backup.
    pub fn store_epoch(&self) -> String {
        self.position.store_epoch().to_string()
    }

    /// Parses an offset that a client sent back.
    pub fn parse_offset(&self, offset: &str) -> ParsedOffset {
        self.position.parse(offset)
    }

    /// Whether an offset that a client sent back is of a history that was replaced, because the store was restored from a backup.
    pub fn is_of_replaced_history(&self, offset: &str) -> bool {
        self.parse_offset(offset) == ParsedOffset::ReplacedHistory
    }

    /// The event of a message, for recovery. `None` when it cannot be encoded, which is logged.
    pub fn encode(&self, message: &Message, offset: u64) -> Option<Encoded> {
        self.position.encode(message, Some(offset))
    }

    /// The events of a change, for recovery: those of memberships that have begun or ended, then the change itself.
    pub fn encode_missed_change(&self, missed: &MissedChange, offset: u64) -> Vec<Encoded> {
        self.position.encode_missed_change(missed, offset)
    }

    /// The messages and changes that a client has missed, as [`Journal::missed`].
    pub async fn missed(&self, client: MissedBy<'_>, after: u64) -> Result<Option<Missed>, Error> {
        self.journal.missed(client, after).await
    }
}
