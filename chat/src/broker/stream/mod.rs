//! The log of a cluster: a Redis Stream that carries every entry to every node, in one order. Rooms [`publish`](Stream::publish)
//! what they have stored, [`follow`] tells it, and who comes back is answered from it ([`Journal`]).
//!
//! The store of messages is the truth and the stream its shadow: what a crash left between the two is put into the stream by
//! whoever writes the room next, and while Redis is away every node tells from the store.

mod append;
mod applied_changes;
mod dedup;
mod fallback;
mod follow;
mod journal;
mod maintenance;
mod positions;
mod publish;
mod record;
pub mod scripts;
mod subscriptions;

use std::{
    collections::HashSet,
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
pub use follow::{News, Tell, follow};
use record::StreamRecord;

#[cfg(test)]
mod tests;

use super::{Entry, StreamPosition};
use crate::{
    Error,
    changes::Changes,
    history::History,
    lineage::Lineage,
    redis::{self, Claimed, Redis},
    unpublished::Unpublished,
};

/// How many entries the stream keeps at least.
const KEPT: usize = 100_000;

/// Changes that wait to be told to other nodes.
const WAITING: usize = 1024;

/// How many rooms are remembered for having messages that the stream has not; others are put right by who writes next.
const BEHIND: usize = 10_000;

/// How many rooms at most are suspected at the same time of having been replaced in the store.
const SUSPECTS: usize = 16;

/// How long whoever stored something waits for this node to have told it.
const TELLING: Duration = Duration::from_secs(2);

/// See the module. Shared by the rooms and the task that follows.
pub struct Stream {
    redis: Redis,
    /// This node's name, by which it knows its own entries.
    node: String,
    history: Arc<dyn History>,
    /// Where other nodes learn of messages that could not be put into the stream.
    unpublished: Arc<dyn Unpublished>,
    /// What other nodes, and this one, have changed of rooms.
    rooms: Arc<dyn Changes>,
    /// Which history the messages are of.
    lineage: Arc<dyn Lineage>,
    position: Arc<StreamPosition>,
    /// Whether Redis answers, as far as is known.
    alive: AtomicBool,
    /// Why it did not the last time.
    trouble: Mutex<String>,
    /// The last offset that this node was given.
    given: AtomicU64,
    track: Mutex<Dedup>,
    /// How many messages were told without a place in the stream.
    unplaced: AtomicU64,
    /// Up to which version of each room changes are applied to the sockets here.
    seen: Mutex<AppliedChanges>,
    /// Rooms whose last messages could not be put into the stream.
    behind: Mutex<HashSet<RoomName>>,
    /// Rooms whose messages in the stream may not be those of the store.
    suspects: Mutex<HashSet<RoomName>>,
    /// The message that was told last: its room, number and id.
    newest: Mutex<Option<(RoomName, u64, String)>>,
    /// There is something to be told from the store, or to be looked at.
    nudge: Notify,
    changes: mpsc::Sender<StreamRecord>,
}

/// A stream, and what [`follow`] needs of it.
pub struct Opened {
    pub(super) stream: Arc<Stream>,
    pub(super) position: Arc<StreamPosition>,
    changes: mpsc::Receiver<StreamRecord>,
    claimed: Claimed,
}

impl Stream {
    /// The stream in `redis`, which has to answer.
    ///
    /// # Errors
    /// [`Error::Store`] when it does not.
    pub async fn open(
        redis: Redis,
        node: String,
        history: Arc<dyn History>,
        unpublished: Arc<dyn Unpublished>,
        rooms: Arc<dyn Changes>,
        lineage: Arc<dyn Lineage>,
    ) -> Result<Opened, Error> {
        let claimed = redis.claim().await?;
        let history_id = lineage.current().await?;
        let mut seen = AppliedChanges::default();
        rooms.recent().await?.iter().for_each(|(room, version)| seen.set(room, Some(*version)));
        let Claimed { epoch, last, .. } = &claimed;
        let position = Arc::new(StreamPosition::of_history(&history_id, epoch, *last));
        let (changes, waiting) = mpsc::channel(WAITING);
        let stream = Self {
            redis,
            node,
            history,
            unpublished,
            rooms,
            lineage,
            position: position.clone(),
            alive: AtomicBool::new(true),
            trouble: Mutex::default(),
            given: AtomicU64::new(*last),
            track: Mutex::default(),
            unplaced: AtomicU64::new(0),
            seen: Mutex::new(seen),
            behind: Mutex::default(),
            suspects: Mutex::default(),
            newest: Mutex::default(),
            nudge: Notify::new(),
            changes,
        };
        let opened = Opened { stream: Arc::new(stream), position, changes: waiting, claimed };
        opened.checked().await
    }

    /// Whether Redis answers, as far as is known.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Tells other nodes of a change. When that fails it is tried again until it succeeds, with whatever comes meanwhile behind
    /// it; what is lost with this process they find out for themselves within a minute.
    pub async fn announce(&self, entry: &Entry) {
        let Some(line) = change(entry) else { return };
        let is_first = self.changes.capacity() == self.changes.max_capacity();
        if is_first && self.is_alive() && self.write(&line).await.is_ok() {
            return;
        }
        if self.changes.try_send(line).is_err() {
            metrics::counter!("godzilla_chat_log_untold_total").increment(1);
            tracing::warn!("too many changes wait to be told to other nodes");
        }
    }

    async fn write(&self, line: &StreamRecord) -> Result<u64, Error> {
        let mut script = scripts::TELL.prepare_invoke();
        let key = |key| self.redis.key(key);
        script.key(key(redis::EPOCH)).key(key(redis::OFFSET)).key(key(redis::STREAM));
        script.arg(&*self.position.epoch()).arg(KEPT).arg(&self.node).arg(line.write());
        let offset: Option<u64> =
            self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
        let Some(offset) = offset else {
            self.nudge.notify_one();
            return Err(another());
        };
        self.given.fetch_max(offset, Ordering::AcqRel);
        Ok(offset)
    }

    /// Waits until this node has told what it has put into the stream, for a while.
    pub async fn settle(&self) {
        self.tells_up_to(self.given.load(Ordering::Acquire)).await;
    }

    /// Waits until this node has told what the stream has up to `offset`, for a while; answers whether it has.
    async fn tells_up_to(&self, offset: u64) -> bool {
        let told = async {
            while self.is_alive() && self.position.reached() < offset {
                let mut moved = std::pin::pin!(self.position.moved.notified());
                moved.as_mut().enable();
                if self.position.reached() >= offset {
                    break;
                }
                moved.await;
            }
        };
        let _ = timeout(TELLING, told).await;
        self.position.reached() >= offset
    }

    fn track(&self) -> MutexGuard<'_, Dedup> {
        self.track.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream lacks messages of this room.
    fn falls_behind(&self, room: &RoomName) {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        if behind.len() < BEHIND {
            behind.insert(room.clone());
        }
    }

    /// The rooms of which the stream lacks messages, as far as this node knows.
    fn behind(&self) -> Vec<RoomName> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn has_suspects(&self) -> bool {
        !self.suspects.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Another store of messages, older than the one before: nothing is known of any room.
    fn forget_all(&self) {
        *self.track() = Dedup::default();
        *self.seen() = AppliedChanges::default();
        self.behind.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Opened {
    /// Begins a new epoch when the stream has messages that the store lacks: the store was restored from a backup.
    async fn checked(mut self) -> Result<Self, Error> {
        if self.stream.is_replaced(self.claimed.since).await? {
            let old = self.stream.position.epoch();
            self.claimed = self.stream.replace().await?;
            let history_id = self.stream.lineage.end(&old).await?;
            self.stream.position.begin_history(&history_id, &self.claimed.epoch);
            self.stream.position.reach(self.claimed.last);
            self.stream.given.store(self.claimed.last, Ordering::Release);
        }
        Ok(self)
    }
}

/// What other nodes must hear of.
fn change(entry: &Entry) -> Option<StreamRecord> {
    Some(match entry {
        Entry::Joined { room, user } => StreamRecord::Joined { room: room.clone(), user: user.clone() },
        Entry::Left { room, user } => StreamRecord::Left { room: room.clone(), user: user.clone() },
        Entry::Archived { room, members } => {
            StreamRecord::Archived { room: room.clone(), members: members.clone() }
        }
        Entry::Changed { room } => StreamRecord::Changed { room: room.clone() },
        Entry::Superseded(socket) => StreamRecord::Superseded { socket: socket.as_str().to_owned() },
        _ => return None,
    })
}

/// What is said of an attempt that met another epoch, or too many other writers.
const ANOTHER: &str = "the log is another one by now";

fn away() -> Error {
    Error::Store("the log does not answer".to_owned())
}

fn another() -> Error {
    Error::Store(ANOTHER.to_owned())
}
