//! The log of a cluster: a Redis Stream that carries every entry to every node, in one order. Rooms [`publish`](Stream::publish)
//! what they have stored, [`follow`] tells it, and who comes back is answered from it ([`Journal`]).
//!
//! The store of messages is the truth and the stream its shadow: what a crash left between the two is put into the stream by
//! whoever writes the room next, and while Redis is away every node tells from the store.

mod follow;
mod journal;
mod line;
pub mod scripts;
mod track;

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

pub use follow::{News, follow};
use line::{Line, Said};
use track::Track;

#[cfg(test)]
mod tests;

use super::{Entry, Position};
use crate::{
    Error,
    history::{History, Kept},
    redis::{self, Claimed, Redis},
};

/// How many entries the stream keeps at least.
const KEPT: usize = 100_000;

/// Messages put into the stream at once when some are missing.
const FILL: usize = 64;

/// How many messages before the first one the stream is told of a room it does not know: a crash leaves fewer behind.
const BEFORE: u64 = 64;

/// Changes that wait to be told to other nodes.
const WAITING: usize = 1024;

/// How many rooms are remembered for having messages that the stream has not; others are put right by who writes next.
const BEHIND: usize = 10_000;

/// How long whoever stored something waits for this node to have told it.
const TELLING: Duration = Duration::from_secs(2);

/// See the module. Shared by the rooms and the task that follows.
pub struct Stream {
    redis: Redis,
    /// This node's name, by which it knows its own entries.
    node: String,
    history: Arc<dyn History>,
    position: Arc<Position>,
    /// Whether Redis answers, as far as is known.
    alive: AtomicBool,
    /// The last offset that this node was given.
    given: AtomicU64,
    track: Mutex<Track>,
    /// Rooms whose last messages could not be put into the stream.
    behind: Mutex<HashSet<RoomName>>,
    /// There is something to be told from the store.
    nudge: Notify,
    changes: mpsc::Sender<Line>,
}

/// A stream, and what [`follow`] needs of it.
pub struct Opened {
    pub(super) stream: Arc<Stream>,
    pub(super) position: Arc<Position>,
    changes: mpsc::Receiver<Line>,
}

/// What became of an append.
enum Appended {
    /// All of it is in the stream.
    Whole,
    /// The room's messages after this one are missing in front.
    Behind(u64),
    /// Nothing is known of the room.
    Unknown,
}

impl Stream {
    /// The stream in `redis`, which has to answer.
    ///
    /// # Errors
    /// [`Error::Store`] when it does not.
    pub async fn open(redis: Redis, node: String, history: Arc<dyn History>) -> Result<Opened, Error> {
        let Claimed { epoch, last, .. } = redis.claim().await?;
        let position = Arc::new(Position::new(&epoch, last));
        let (changes, waiting) = mpsc::channel(WAITING);
        let stream = Self {
            redis,
            node,
            history,
            position: position.clone(),
            alive: AtomicBool::new(true),
            given: AtomicU64::new(last),
            track: Mutex::default(),
            behind: Mutex::default(),
            nudge: Notify::new(),
            changes,
        };
        Ok(Opened { stream: Arc::new(stream), position, changes: waiting })
    }

    /// Whether Redis answers, as far as is known.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Puts messages of one room, which are stored, into the stream; without any, whatever the room has that the stream lacks. When that fails they are told from the store, here at once
    /// and elsewhere within two seconds, and the stream hears of them later.
    pub async fn publish(&self, room: &RoomName, messages: Vec<Kept>) {
        let published = match messages.is_empty() {
            _ if !self.is_alive() => Err(away()),
            true => self.catch_up(room).await,
            false => self.append_all(room, messages).await,
        };
        if let Err(error) = published {
            tracing::debug!(%room, %error, "messages are told without the log");
            metrics::counter!("godzilla_chat_log_bypassed_total").increment(1);
            let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
            if behind.len() < BEHIND {
                behind.insert(room.clone());
            }
            drop(behind);
            self.nudge.notify_one();
        }
    }

    /// Tells other nodes of a change. When that fails it is tried again until it succeeds, with whatever comes meanwhile behind
    /// it; what is lost with this process they find out for themselves within a minute.
    pub async fn spread(&self, entry: &Entry) {
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

    async fn write(&self, line: &Line) -> Result<u64, Error> {
        let mut script = scripts::TELL.prepare_invoke();
        script.key(redis::OFFSET).key(redis::STREAM).arg(KEPT).arg(&self.node).arg(line.write());
        let offset = self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
        self.given.fetch_max(offset, Ordering::AcqRel);
        Ok(offset)
    }

    /// Waits until this node has told what it has put into the stream, for a while.
    pub async fn settle(&self) {
        let given = self.given.load(Ordering::Acquire);
        let told = async {
            while self.is_alive() && self.position.reached() < given {
                let mut moved = std::pin::pin!(self.position.moved.notified());
                moved.as_mut().enable();
                if self.position.reached() >= given {
                    break;
                }
                moved.await;
            }
        };
        let _ = timeout(TELLING, told).await;
    }

    /// Somebody here listens to these rooms from now on. A room whose end cannot be read is one of which nothing is known.
    pub async fn attend(&self, rooms: &[RoomName]) {
        for room in rooms {
            if self.track().knows(room) {
                continue;
            }
            match self.history.head(room).await {
                Ok(head) => self.track().attend(room, head.seq),
                Err(error) => tracing::debug!(%room, %error, "the end of a room is not known"),
            }
        }
    }

    fn track(&self) -> MutexGuard<'_, Track> {
        self.track.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `messages`, and before them whatever the stream lacks.
    async fn append_all(&self, room: &RoomName, messages: Vec<Kept>) -> Result<(), Error> {
        let Some(first) = messages.first().map(|kept| kept.message.seq) else { return Ok(()) };
        let lines = |again: bool, messages: Vec<Kept>| -> Vec<Said> {
            messages.into_iter().map(|kept| Said::new(kept, again)).collect()
        };
        let fresh = lines(false, messages);
        match self.append(room, &fresh, false).await? {
            Appended::Whole => return Ok(()),
            Appended::Behind(last) => self.fill(room, last, first, false).await?,
            Appended::Unknown => self.fill(room, first.saturating_sub(1 + BEFORE), first, true).await?,
        }
        match self.append(room, &fresh, false).await? {
            Appended::Whole => Ok(()),
            // Somebody else writes the room, and has put these in by now or will.
            Appended::Behind(_) | Appended::Unknown => {
                Err(Error::Store("the log is another one by now".into()))
            }
        }
    }

    /// Puts the room's messages after `last` and before `first` into the stream, from the store. `again`: they may have been in
    /// it before.
    async fn fill(&self, room: &RoomName, mut last: u64, first: u64, again: bool) -> Result<(), Error> {
        metrics::counter!("godzilla_chat_log_filled_total").increment(1);
        let mut begins = again;
        while last + 1 < first {
            let kept = self.history.since(room, last, FILL).await?.messages;
            let lines: Vec<Said> = kept
                .into_iter()
                .filter(|kept| kept.message.seq < first)
                .map(|kept| Said::new(kept, again))
                .collect();
            let Some(end) = lines.last().map(Said::seq) else { return Ok(()) };
            self.append(room, &lines, begins).await?;
            (last, begins) = (end, false);
        }
        Ok(())
    }

    async fn append(&self, room: &RoomName, lines: &[Said], begins: bool) -> Result<Appended, Error> {
        let mut script = scripts::APPEND.prepare_invoke();
        script.key(redis::OFFSET).key(redis::STREAM).key(redis::HEADS);
        script.arg(room.as_str()).arg(KEPT).arg(&self.node).arg(u8::from(begins));
        for line in lines {
            script.arg(line.seq()).arg(Line::Said(line.clone()).write());
        }
        let (outcome, number): (String, u64) =
            self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
        Ok(match outcome.as_str() {
            "behind" => Appended::Behind(number),
            "unknown" => Appended::Unknown,
            _ => {
                self.given.fetch_max(number, Ordering::AcqRel);
                Appended::Whole
            }
        })
    }

    /// Puts what the stream lacks of a room into it.
    async fn catch_up(&self, room: &RoomName) -> Result<(), Error> {
        let head = self.history.head(room).await?.seq;
        let last = self.history.since(room, head.saturating_sub(1), 1).await?.messages;
        self.append_all(room, last).await
    }
}

/// What other nodes must hear of.
fn change(entry: &Entry) -> Option<Line> {
    Some(match entry {
        Entry::Joined { room, user } => Line::Joined { room: room.clone(), user: user.clone() },
        Entry::Left { room, user } => Line::Left { room: room.clone(), user: user.clone() },
        Entry::Archived { room, members } => Line::Archived { room: room.clone(), members: members.clone() },
        Entry::Changed { room } => Line::Changed { room: room.clone() },
        Entry::Superseded(socket) => Line::Superseded { socket: socket.as_str().to_owned() },
        _ => return None,
    })
}

fn away() -> Error {
    Error::Store("the log does not answer".to_owned())
}
