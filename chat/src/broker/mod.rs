//! The one order in which everything reaches clients: stores tell of what they have committed, the roster of who is here,
//! and [`local`] hands it to the sockets. Rooms and the presence watcher append, clients read the position. In a cluster what
//! rooms say takes the way through the [`stream`] that all nodes read, and comes back from there.

mod entry;
mod fanout;
pub mod fanout_actor;
mod pacing;
pub mod stream;
mod stream_position;
#[cfg(test)]
mod tests;
mod typing;

use std::sync::{Arc, atomic::Ordering};

use proto::{RoomName, event::Message};
use socketio::Encoded;
use supervision::BusyTimer;
use tokio::sync::mpsc;

use self::pacing::Pacers;
use crate::{
    Error,
    history::{Journal, Missed, StoredMessage},
};
pub use entry::Entry;
pub use pacing::Pacing;
pub use stream::Stream;
pub use stream_position::{ParsedOffset, StreamPosition};

pub use fanout::{encode, of_room, of_session, of_user, unknown};

/// How many entries may wait: at the default text limit at most 8 MiB.
const QUEUE: usize = 1024;

/// The handle of the log. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    entries: mpsc::Sender<Entry>,
    position: Arc<StreamPosition>,
    journal: Arc<dyn Journal>,
    /// The batch on its way to the sockets.
    work: Arc<BusyTimer>,
    pacers: Pacers,
    /// The log of a cluster; without one the store of messages is the log.
    stream: Option<Arc<Stream>>,
}

impl Broker {
    /// A log that goes on where `journal` ends, and its entries as they come, for [`fanout_actor::start`].
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn open(journal: Arc<dyn Journal>) -> Result<(Self, mpsc::Receiver<Entry>), Error> {
        let (epoch, offset) = (journal.epoch().await?, journal.offset().await?);
        let position = Arc::new(StreamPosition::new(&epoch, offset));
        let (entries, queue) = mpsc::channel(QUEUE);
        let pacers = Pacers::default();
        Ok((Self { entries, position, journal, work: Arc::default(), pacers, stream: None }, queue))
    }

    /// The log of a cluster, its entries for [`fanout_actor::start`], and where [`stream::follow`] puts them.
    pub fn shared(opened: &stream::Opened) -> (Self, mpsc::Receiver<Entry>, mpsc::Sender<Entry>) {
        let (entries, queue) = mpsc::channel(QUEUE);
        let stream = opened.stream.clone();
        let (journal, position) = (stream.clone(), opened.position.clone());
        let broker = Self {
            entries: entries.clone(),
            position,
            journal,
            work: Arc::default(),
            pacers: Pacers::default(),
            stream: Some(stream),
        };
        (broker, queue, entries)
    }

    /// Whether other nodes write to the same rooms.
    pub fn is_shared(&self) -> bool {
        self.stream.is_some()
    }

    /// Why the log is not followed, if so, in words that go behind "the log". For `/readyz`.
    pub fn not_ready_reason(&self) -> Option<String> {
        self.stream.as_ref().and_then(|stream| stream.not_ready_reason())
    }

    /// Tells what one room has stored, where the store is not the log itself.
    ///
    /// # Errors
    /// See [`Stream::publish`].
    pub async fn publish(&self, room: &RoomName, messages: Vec<StoredMessage>) -> Result<(), Error> {
        match &self.stream {
            Some(stream) => stream.publish(room, messages).await,
            None => Ok(()),
        }
    }

    /// Tells other nodes of a change, of which this one has told its sockets.
    pub async fn announce(&self, entry: &Entry) {
        if let Some(stream) = &self.stream {
            stream.announce(entry).await;
        }
    }

    /// Sockets of this node may enter these rooms from now on; to be called before they do. Answers whether the rooms' members must be
    /// read again: see [`Stream::attend`].
    ///
    /// # Errors
    /// See [`Stream::attend`].
    pub async fn subscribe(&self, rooms: &[RoomName]) -> Result<bool, Error> {
        match &self.stream {
            Some(stream) => stream.subscribe(rooms).await,
            None => Ok(false),
        }
    }

    /// Sockets of this node may enter a room that was just made; to be called before they do.
    pub fn subscribe_new(&self, room: &RoomName) {
        if let Some(stream) = &self.stream {
            stream.subscribe_new(room);
        }
    }

    /// How many messages were told here without a place in the log.
    pub fn unplaced(&self) -> u64 {
        self.stream.as_ref().map_or(0, |stream| stream.unplaced())
    }

    /// Whether any of these messages may have been told here without a place in the log, after the first `count` of those. A client
    /// that was in the room at that time has it already.
    pub fn was_unplaced<'a>(&self, messages: impl Iterator<Item = &'a Message>, count: u64) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.was_unplaced(messages, count))
    }

    /// Appends what a store has just committed. Called on the store's own thread, in commit order.
    ///
    /// When the queue is full this blocks, and with it all writes of the chat: then they wait for the sockets' workers,
    /// and their senders are refused in time by the rooms. Dropping the entry instead would break the order. The wait is
    /// short, because a worker takes a batch without ever waiting for a client.
    pub fn append(&self, entry: Entry) {
        self.position.note(&entry);
        if let Some(stream) = &self.stream {
            stream.changed_here(&entry);
        }
        let full = match self.entries.try_send(entry) {
            Err(mpsc::error::TrySendError::Full(entry)) => entry,
            // Closed: the process is ending, and what is stored will be read from history.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
        };
        metrics::counter!("godzilla_chat_log_full_total").increment(1);
        if self.stream.is_some() {
            // Not on a thread that may wait: the change is told again by other nodes' entries, or when the room is read again.
            return;
        }
        let _ = self.entries.blocking_send(full);
    }

    /// Appends what needs no store.
    pub async fn tell(&self, entry: Entry) {
        let _ = self.entries.send(entry).await;
    }

    /// Waits until everything that was said so far was handed to the sockets here.
    pub async fn flush(&self) {
        if let Some(stream) = &self.stream {
            stream.settle().await;
        }
        self.flush_here().await;
    }

    /// Waits until everything appended here so far was handed to the sockets.
    pub async fn flush_here(&self) {
        let (done, mut flushed) = mpsc::channel(1);
        let _ = self.entries.send(Entry::Flushed(done)).await;
        let _ = flushed.recv().await;
    }

    /// Registers a batch of a room, before it is written.
    pub fn pace(&self, room: &RoomName) -> Pacing {
        self.pacers.begin(room)
    }

    /// The mark of the room's batch that is on its way.
    #[cfg(test)]
    pub fn mark(&self, room: &RoomName) -> Option<socketio::BackpressureToken> {
        self.pacers.of(room)
    }

    /// Whether what is appended is taken, and no batch has been on its way to the sockets for seconds.
    pub fn is_open(&self) -> bool {
        !self.entries.is_closed() && !self.work.is_busy_longer_than(fanout_actor::SLOW)
    }

    /// Changes whenever a membership was committed: a socket that enters the rooms of its user compares it before and after,
    /// because a change in between was told to sockets that this one did not belong to yet.
    pub fn memberships(&self) -> u64 {
        self.position.memberships.load(Ordering::Acquire)
    }

    /// How far everything was handed to the sockets. Whoever enters a room after asking this hears all that comes later.
    pub fn reached(&self) -> u64 {
        self.position.reached()
    }

    /// An offset as clients see it; they only ever give it back.
    pub fn show(&self, offset: u64) -> String {
        self.position.show(Some(offset))
    }

    /// What an offset says that a client gave back.
    pub fn read(&self, shown: &str) -> ParsedOffset {
        self.position.read(shown)
    }

    /// Whether an offset that a client gave back is of a history that was replaced by an older one.
    pub fn is_of_replaced_history(&self, shown: &str) -> bool {
        self.read(shown) == ParsedOffset::Replaced
    }

    /// A message as it goes to a client that comes back for it.
    pub fn encode(&self, message: &Message, offset: u64) -> Option<Encoded> {
        self.position.encode(message, Some(offset))
    }

    /// See [`Journal::missed`].
    pub async fn missed(
        &self,
        rooms: &[RoomName],
        after: u64,
        origin: &str,
    ) -> Result<Option<Missed>, Error> {
        self.journal.missed(rooms, after, origin).await
    }
}
