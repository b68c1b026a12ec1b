//! The log of a cluster: a Redis Stream from which every node receives all records in one order. Rooms [`publish`](event_log) the messages
//! that they have stored. [`follow`] delivers them. Recovery reads missed messages from the stream ([`Journal`](crate::history::Journal)).
//!
//! The store of messages is the source of truth. Messages that a crash left in the store only are published by the next writer of
//! the room. While Redis is unavailable, every node delivers from the store.

mod announce;
mod append;
mod applied_changes;
mod comparisons;
mod dedup;
mod deliver;
mod event_log;
mod fallback;
mod follow;
mod journal;
mod latest_revs;
mod maintenance;
mod missed_changes;
mod pending_records;
mod positions;
mod publish;
mod record;
mod refusals;
mod replaced_changes;
pub mod scripts;
mod subscriptions;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use proto::RoomName;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use applied_changes::AppliedChanges;
use dedup::Dedup;
pub use follow::{OnRemoteChange, RemoteChange, follow};
pub use latest_revs::{LatestRevs, MAX_AGE, RevWatch};
use pending_records::PendingRecords;
use record::StreamRecord;
use refusals::Refusals;

#[cfg(test)]
mod tests;

use super::StreamPosition;
use crate::{
    Error,
    changes::Changes,
    history::History,
    lineage::Lineage,
    redis::{self, EpochState, Redis},
    unpublished::Unpublished,
};

/// The minimum number of records that the stream keeps when it is trimmed by length.
const MIN_LENGTH: usize = 100_000;

/// The maximum number of rooms in the backlog. The next writer of a room beyond it publishes the missing messages.
const MAX_BACKLOG: usize = 10_000;

/// The maximum number of rooms whose messages in the stream wait for a comparison with the store.
const MAX_SUSPECTS: usize = 16;

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
    /// The id of the current history.
    lineage: Arc<dyn Lineage>,
    position: Arc<StreamPosition>,
    /// Whether the stream is followed. False from an error until the next successful connection.
    available: AtomicBool,
    /// The error that made the stream unavailable the last time.
    last_error: Mutex<String>,
    /// The failures of writes since the last successful one.
    refusals: Refusals,
    /// The offset of the last record that this node has published.
    last_published: AtomicU64,
    dedup: Mutex<Dedup>,
    /// The number of messages that were delivered without an offset.
    fallback_deliveries: AtomicU64,
    /// The version of each room up to which changes are applied to the sockets of this node.
    applied: Mutex<AppliedChanges>,
    /// The versions of rooms in the store, as they were read last.
    latest_revs: Arc<LatestRevs>,
    /// The rooms whose last messages are missing in the stream.
    backlog: Mutex<HashSet<RoomName>>,
    /// The rooms whose messages in the stream may differ from those in the store.
    suspects: Mutex<HashSet<RoomName>>,
    /// The last delivered message: its room, `seq` and id.
    last_delivered: Mutex<Option<(RoomName, u64, String)>>,
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
    state: EpochState,
}

impl Stream {
    /// Opens the stream in `redis`, as the node `node`.
    ///
    /// # Errors
    /// [`Error::Store`] when Redis or a store does not answer.
    pub async fn open(
        redis: Redis,
        node: String,
        history: Arc<dyn History>,
        unpublished: Arc<dyn Unpublished>,
        rooms: Arc<dyn Changes>,
        lineage: Arc<dyn Lineage>,
    ) -> Result<Opened, Error> {
        let state = redis.open_epoch().await?;
        let history_id = lineage.current().await?;
        let recent = rooms.recent().await?;
        let EpochState { epoch, last, .. } = &state;
        let position = Arc::new(StreamPosition::of_history(&history_id, epoch, *last));
        let (pending, changes) = PendingRecords::new();
        let stream = Self {
            redis,
            node,
            history,
            unpublished,
            rooms,
            lineage,
            position: position.clone(),
            available: AtomicBool::new(true),
            last_error: Mutex::default(),
            refusals: Refusals::default(),
            last_published: AtomicU64::new(*last),
            dedup: Mutex::default(),
            fallback_deliveries: AtomicU64::new(0),
            applied: Mutex::default(),
            latest_revs: Arc::default(),
            backlog: Mutex::default(),
            suspects: Mutex::default(),
            last_delivered: Mutex::default(),
            wake: Notify::new(),
            pending,
            fallback_changes: Mutex::default(),
            changes_applied: Notify::new(),
        };
        // Changes whose records are missing, because the node that made them has ended, are applied from the store.
        let announced = stream.announced(&recent).await;
        announced.iter().for_each(|(room, version)| stream.applied().set(room, Some(*version)));
        let opened = Opened { stream: Arc::new(stream), position, changes, state };
        opened.checked().await
    }

    /// Whether the stream is followed.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }

    /// Appends a record that has no `seq`. `is_ordered`: the records of all earlier changes of its room were written before.
    async fn write(&self, record: &StreamRecord, is_ordered: bool) -> Result<Written, Error> {
        let mut script = scripts::ANNOUNCE.prepare_invoke();
        let key = |key| self.redis.key(key);
        script.key(key(redis::EPOCH)).key(key(redis::OFFSET)).key(key(redis::STREAM)).key(key(redis::BASE));
        script.key(key(redis::REVS));
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
        let written = self.refusals.record(written)?;
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

    /// Clears the state of all rooms, because the store of messages was replaced by an older one.
    fn reset(&self) {
        self.refusals.clear();
        self.pending.discard();
        self.fallback_changes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.dedup() = Dedup::default();
        *self.applied() = AppliedChanges::default();
        self.latest_revs.clear();
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.last_delivered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Opened {
    /// Begins a new history and epoch if the stream has messages that the store lacks, because the store was restored from a backup.
    async fn checked(mut self) -> Result<Self, Error> {
        if self.stream.is_history_replaced(self.state.since).await? {
            let old = self.stream.position.epoch();
            self.state = self.stream.replace_history().await?;
            self.stream.reset();
            let history_id = self.stream.lineage.end(&old).await?;
            self.stream.position.begin_history(&history_id, &self.state.epoch);
            self.stream.position.reach(self.state.last);
            self.stream.last_published.store(self.state.last, Ordering::Release);
        }
        Ok(self)
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
