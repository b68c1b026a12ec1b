//! Delivers all events to the sockets of this node in one order. Rooms append what their stores have committed, the presence relay
//! appends the online and typing users, and [`fanout_actor`] sends the entries of the [`queue`] to the sockets. Clients read the
//! position. The [`EventLog`] is the order from which clients recover: the store itself in one process, and the [`stream`] that all nodes
//! read in a cluster.

#[cfg(test)]
mod conformance;
mod event;
mod fanout;
pub mod fanout_actor;
mod local;
mod log;
mod queue;
mod room_backpressure;
pub mod stream;
mod stream_position;
#[cfg(test)]
mod tests;
mod typing;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use proto::{RoomName, event::Message};
use socketio::{Encoded, SocketId};
use supervision::BusyTimer;
use tokio::sync::mpsc;

use self::{local::LocalLog, room_backpressure::RoomTokens};
use crate::{
    Error,
    directory::RoomChange,
    history::{Journal, Missed, MissedBy, MissedChange, StoredMessage},
};
pub use event::{Control, Entry, RoomEvent, RoomEventKind, Signal};
pub use fanout::{encode, member_sockets, presence_unknown, session_sockets, user_sockets};
pub use log::EventLog;
pub use queue::Queue;
pub use room_backpressure::PendingBatch;
pub use stream::Stream;
pub use stream_position::{ParsedOffset, StreamPosition};

/// The handle of the broker. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    queue: Queue,
    position: Arc<StreamPosition>,
    log: Arc<dyn EventLog>,
    /// Runs while a batch is on its way to the sockets.
    work: Arc<BusyTimer>,
    tokens: RoomTokens,
}

impl Broker {
    /// A broker of one process that continues at the end of `journal`, and its queue, for [`fanout_actor::start`].
    ///
    /// # Errors
    /// [`Error::Store`] when the store does not answer.
    pub async fn open(journal: Arc<dyn Journal>) -> Result<(Self, mpsc::Receiver<Entry>), Error> {
        let (epoch, offset) = (journal.epoch().await?, journal.offset().await?);
        let position = Arc::new(StreamPosition::new(&epoch, offset));
        let (queue, entries) = Queue::new(position.clone());
        let log = Arc::new(LocalLog::new(journal, queue.clone()));
        Ok((Self { queue, position, log, work: Arc::default(), tokens: RoomTokens::default() }, entries))
    }

    /// The broker of a node of a cluster, its queue, for [`fanout_actor::start`], and the sending half for [`stream::follow`].
    pub fn shared(opened: &stream::Opened) -> (Self, mpsc::Receiver<Entry>, Queue) {
        let (log, position) = (opened.stream.clone(), opened.position.clone());
        let (queue, entries) = Queue::new(position.clone());
        let broker =
            Self { queue: queue.clone(), position, log, work: Arc::default(), tokens: RoomTokens::default() };
        (broker, entries, queue)
    }

    /// As [`EventLog::not_ready_reason`].
    pub fn not_ready_reason(&self) -> Option<String> {
        self.log.not_ready_reason()
    }

    /// As [`EventLog::publish`].
    ///
    /// # Errors
    /// As [`EventLog::publish`].
    pub async fn publish(&self, room: &RoomName, messages: Vec<StoredMessage>) -> Result<(), Error> {
        self.log.publish(room, messages).await
    }

    /// Closes a socket on every node, because its client has reconnected. Resolves when this node has closed it.
    pub async fn supersede(&self, socket: &SocketId) {
        self.send(Control::Superseded(socket.clone())).await;
        self.log.publish_superseded(socket).await;
        self.flush_local().await;
    }

    /// As [`EventLog::publish_change`].
    pub fn publish_change(&self, change: RoomChange) {
        self.log.publish_change(change);
    }

    /// Waits until the change `rev` of a room is on its way to the sockets of this node. The wait is bounded. There is no change 0.
    pub async fn wait_for_change(&self, room: &RoomName, rev: u64) {
        if rev > 0 {
            self.log.wait_for_change(room, rev, false).await;
        }
    }

    /// As [`Broker::wait_for_change`], for a reader: it does not wait if no socket of this node is in the room.
    pub async fn wait_if_subscribed(&self, room: &RoomName, rev: u64) {
        if rev > 0 {
            self.log.wait_for_change(room, rev, true).await;
        }
    }

    /// As [`EventLog::changes_read_up_to`].
    pub fn changes_read_up_to(&self) -> Option<Instant> {
        self.log.changes_read_up_to()
    }

    /// As [`EventLog::subscribe`].
    ///
    /// # Errors
    /// As [`EventLog::subscribe`].
    pub async fn subscribe(&self, rooms: &[RoomName]) -> Result<bool, Error> {
        self.log.subscribe(rooms).await
    }

    /// As [`EventLog::subscribe_new`].
    pub fn subscribe_new(&self, room: &RoomName, rev: u64) {
        self.log.subscribe_new(room, rev);
    }

    /// As [`EventLog::fallback_deliveries`].
    pub fn fallback_deliveries(&self) -> u64 {
        self.log.fallback_deliveries()
    }

    /// As [`EventLog::may_be_fallback_delivery`].
    pub fn may_be_fallback_delivery(&self, messages: &[(u64, Message)], count: u64) -> bool {
        self.log.may_be_fallback_delivery(messages, count)
    }

    /// Appends an event that a store of one process has just committed, as [`Queue::append`].
    pub fn append(&self, event: RoomEvent) {
        self.queue.append(event.into());
    }

    /// Appends an entry that no store commits. Waits while the queue is full.
    pub async fn send(&self, entry: impl Into<Entry>) {
        self.queue.send(entry).await;
    }

    /// Waits until everything that this node has published or appended so far was delivered to its sockets. The wait for the log
    /// is bounded.
    pub async fn flush(&self) {
        self.log.flush().await;
        self.flush_local().await;
    }

    /// As [`EventLog::flush_changes`].
    pub async fn flush_changes(&self) {
        self.log.flush_changes().await;
    }

    /// As [`Queue::flush`].
    pub async fn flush_local(&self) {
        self.queue.flush().await;
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
        !self.queue.is_closed() && !self.work.is_busy_longer_than(fanout_actor::SLOW)
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

    /// The text of the offset that this node has reached, for a client that has read the stores up to now. While this node has
    /// [unconfirmed deliveries](EventLog::has_unconfirmed_deliveries) it is an offset from which no client recovers.
    pub fn format_position(&self) -> String {
        let reached = self.position.reached();
        self.position.format(Some(reached).filter(|_| !self.log.has_unconfirmed_deliveries()))
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
        self.position.encode(message, Some(offset), true)
    }

    /// The events of a change, for recovery: those of memberships that have begun or ended, then the change itself.
    pub fn encode_missed_change(&self, missed: &MissedChange, offset: u64) -> Vec<Encoded> {
        self.position.encode_missed_change(missed, offset)
    }

    /// The messages and changes that a client has missed, as [`Journal::missed`].
    pub async fn missed(&self, client: MissedBy<'_>, after: u64) -> Result<Option<Missed>, Error> {
        self.log.missed(client, after).await
    }
}
