//! The log of a cluster: a Redis Stream from which every node receives all records in one order. Rooms [`publish`](event_log) the messages
//! that they have stored. [`follow`] delivers them. Recovery reads missed messages from the stream ([`Journal`](crate::history::Journal)).
//!
//! The store of messages is the source of truth. Messages that a crash left in the store only are published by the next writer of
//! the room. While Redis is unavailable, every node delivers from the store.

mod announce;
mod append;
mod applied_changes;
mod dedup;
mod deliver;
mod event_log;
mod fallback;
mod follow;
mod journal;
mod maintenance;
mod missed_changes;
mod pending_records;
mod positions;
mod publish;
mod record;
pub mod scripts;
mod subscriptions;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proto::RoomName;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use applied_changes::AppliedChanges;
use dedup::Dedup;
pub use follow::{OnRemoteChange, RemoteChange, follow};
use pending_records::PendingRecords;
use record::StreamRecord;

#[cfg(test)]
mod tests;

use super::StreamPosition;
use crate::{
    Error,
    changes::Changes,
    history::History,
    redis::{self, EpochState, Redis},
    unpublished::Unpublished,
};

/// The minimum number of records that the stream keeps when it is trimmed by length.
const MIN_LENGTH: usize = 100_000;

/// The maximum number of rooms in the backlog. The next writer of a room beyond it publishes the missing messages.
const MAX_BACKLOG: usize = 10_000;

/// How long a caller waits until this node has delivered a record.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);

/// The stream of a cluster, as one node uses it. Shared by the rooms and the task [`follow`].
pub struct Stream {
    redis: Redis,
    /// The name of this node, by which it recognizes its own records.
    node: String,
    history: Arc<dyn History>,
    /// The rooms with messages that a node could not publish. All nodes read it.
    unpublished: Arc<dyn Unpublished>,
    /// The latest changes of each room, by this node and others.
    rooms: Arc<dyn Changes>,
    position: Arc<StreamPosition>,
    /// Whether the stream is followed. False from an error until the next successful connection.
    available: AtomicBool,
    /// The error that made the stream unavailable the last time.
    last_error: Mutex<String>,
    /// The offset of the last record that this node has published.
    last_published: AtomicU64,
    dedup: Mutex<Dedup>,
    /// The number of messages that were delivered without an offset.
    fallback_deliveries: AtomicU64,
    /// The version of each room up to which changes are applied to the sockets of this node.
    applied: Mutex<AppliedChanges>,
    /// The time up to which this node has read which rooms were changed.
    changes_read: Mutex<Instant>,
    /// The rooms whose last messages are missing in the stream.
    backlog: Mutex<HashSet<RoomName>>,
    /// Wakes the task [`follow`]: the backlog has a room, or the stream must be checked.
    wake: Notify,
    /// The records of changes that wait to be written.
    pending: PendingRecords,
    /// The last change of each room that was applied without a record.
    fallback_changes: Mutex<HashMap<RoomName, u64>>,
    /// Notified when changes of a room were applied.
    changes_applied: Notify,
}

/// The outcome of the append of a record without a `seq`.
enum Written {
    /// The stream has the record, and this is its last offset.
    Appended(u64),
    /// The records of earlier changes of the room are missing. Contains the last change of the room that has a record, if Redis has its number.
    Gap(Option<u64>),
}

/// An opened stream with the state that [`follow`] takes over.
pub struct Opened {
    pub(super) stream: Arc<Stream>,
    pub(super) position: Arc<StreamPosition>,
    changes: mpsc::Receiver<StreamRecord>,
}

impl Stream {
    /// Opens the stream in `redis`, as the node `node`. `history_id` is the id of the store of messages.
    ///
    /// # Errors
    /// [`Error::Store`] when Redis or a store does not answer.
    pub async fn open(
        redis: Redis,
        node: String,
        history: Arc<dyn History>,
        unpublished: Arc<dyn Unpublished>,
        rooms: Arc<dyn Changes>,
        history_id: &str,
    ) -> Result<Opened, Error> {
        let state = redis.open_epoch().await?;
        let begun = Instant::now();
        let recent = rooms.recent().await?;
        let EpochState { epoch, last, .. } = &state;
        let position = Arc::new(StreamPosition::of_history(history_id, epoch, *last));
        let (pending, changes) = PendingRecords::new();
        let stream = Self {
            redis,
            node,
            history,
            unpublished,
            rooms,
            position: position.clone(),
            available: AtomicBool::new(true),
            last_error: Mutex::default(),
            last_published: AtomicU64::new(*last),
            dedup: Mutex::default(),
            fallback_deliveries: AtomicU64::new(0),
            applied: Mutex::default(),
            changes_read: Mutex::new(begun),
            backlog: Mutex::default(),
            wake: Notify::new(),
            pending,
            fallback_changes: Mutex::default(),
            changes_applied: Notify::new(),
        };
        // Changes whose records are missing, because the node that made them has ended, are applied from the store.
        let announced = stream.announced(&recent).await;
        announced.iter().for_each(|(room, version)| stream.applied().set(room, Some(*version)));
        Ok(Opened { stream: Arc::new(stream), position, changes })
    }

    /// Whether the stream is followed.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }

    /// Appends a record that has no `seq`. `is_ordered`: the records of all earlier changes of its room were written before.
    async fn write(&self, record: &StreamRecord, is_ordered: bool) -> Result<Written, Error> {
        let mut script = scripts::ANNOUNCE.prepare_invoke();
        let key = |key| self.redis.key(key);
        script.key(key(redis::EPOCH)).key(key(redis::OFFSET)).key(key(redis::STREAM)).key(key(redis::REVS));
        script.arg(&*self.position.epoch()).arg(MIN_LENGTH).arg(&self.node).arg(record.encode());
        let (room, rev) = record.room().zip(record.rev()).unzip();
        script.arg(room.map_or("", RoomName::as_str)).arg(rev.map(|rev| rev.to_string()).unwrap_or_default());
        script.arg(u8::from(is_ordered));
        let written: Result<(String, Option<u64>), Error> =
            self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await;
        let written = written.and_then(|(outcome, number)| match (outcome.as_str(), number) {
            ("gap", last) => Ok(Written::Gap(last)),
            ("appended", Some(offset)) => Ok(Written::Appended(offset)),
            _ => Err(epoch_changed()),
        });
        if written.as_ref().is_err_and(|error| *error == epoch_changed()) {
            self.wake.notify_one();
        }
        let written = written?;
        if let Written::Appended(offset) = written {
            self.last_published.fetch_max(offset, Ordering::AcqRel);
        }
        Ok(written)
    }

    /// Waits until this node has delivered all records that it has published, at most [`DELIVERY_TIMEOUT`].
    async fn wait_until_published_is_delivered(&self) {
        self.wait_until_delivered(self.last_published.load(Ordering::Acquire)).await;
    }

    /// Waits until this node has delivered all records up to `offset`, at most [`DELIVERY_TIMEOUT`] and while the stream is available.
    /// Returns whether it has.
    async fn wait_until_delivered(&self, offset: u64) -> bool {
        let delivered = async {
            while self.is_available() && self.position.reached() < offset {
                let mut moved = std::pin::pin!(self.position.moved.notified());
                moved.as_mut().enable();
                if self.position.reached() >= offset {
                    break;
                }
                moved.await;
            }
        };
        let _ = timeout(DELIVERY_TIMEOUT, delivered).await;
        self.position.reached() >= offset
    }

    fn dedup(&self) -> MutexGuard<'_, Dedup> {
        self.dedup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a room whose last messages are missing in the stream.
    fn add_to_backlog(&self, room: &RoomName) {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        if backlog.len() < MAX_BACKLOG {
            backlog.insert(room.clone());
        }
    }

    /// The rooms whose last messages are missing in the stream, as far as this node has detected.
    fn backlog(&self) -> Vec<RoomName> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// The error of an append that found another epoch, or too many concurrent writers of the room.
const EPOCH_CHANGED: &str = "the stream has another epoch or other writers by now";

fn unavailable() -> Error {
    Error::Store("the stream is unavailable".to_owned())
}

fn epoch_changed() -> Error {
    Error::Store(EPOCH_CHANGED.to_owned())
}
