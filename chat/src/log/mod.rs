//! The one order in which everything reaches clients: stores tell of what they have committed, the roster of who is here,
//! and [`local`] hands it to the sockets. Rooms and the presence watcher append, guests read the position.

mod fanout;
pub mod local;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use proto::{RoomName, Username, event::Message};
use socketio::{Encoded, SocketId};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Error,
    history::{Journal, Missed},
};
pub use fanout::{encode, of_room, of_session, of_user, unknown};

/// How many entries may wait: at the default text limit at most 8 MiB.
const QUEUE: usize = 1024;

/// The offset that is shown of what has none: it is of no epoch.
const NOWHERE: &str = "nowhere";

/// The length of an epoch: 64 bits in lower-case hex.
pub const EPOCH: usize = 16;

/// What an offset says that a client gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A place in this log.
    Here(u64),
    /// A place in a log that is gone, or in none: nobody goes on from there.
    Elsewhere,
    /// Nothing: it is no offset. Stock clients take any string at the end of any event for one.
    Nothing,
}

/// Something that happened.
#[derive(Debug)]
pub enum Entry {
    /// A message was stored.
    Said {
        /// Its place in the log; none while the log itself is away and history told of the message.
        offset: Option<u64>,
        /// The message.
        message: Message,
        /// The socket it came from, which knows it from its ack; none over HTTP.
        origin: Option<SocketId>,
    },
    /// Somebody became a member of a room.
    Joined {
        /// The room.
        room: RoomName,
        /// Who.
        user: Username,
    },
    /// Somebody is no longer a member of a room.
    Left {
        /// The room.
        room: RoomName,
        /// Who.
        user: Username,
    },
    /// A room was archived: all its members have left.
    Archived {
        /// The room.
        room: RoomName,
        /// Who was in it.
        members: Vec<Username>,
    },
    /// Who is online changed, or a first list came.
    Online {
        /// The change; none for a list that is news as a whole.
        diff: Option<proto::event::PresenceDiff>,
        /// Everybody online, when they are few enough to be told.
        list: Option<Vec<String>>,
    },
    /// Nobody knows who is online: the presence service does not answer.
    OnlineUnknown,
    /// Who types in a room.
    Typing {
        /// The room.
        room: RoomName,
        /// Everybody typing now.
        users: Vec<String>,
    },
    /// The client of this socket has come back on another connection.
    Superseded(SocketId),
    /// Everything before this was handed over.
    Flushed(oneshot::Sender<()>),
}

/// The handle of the log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    entries: mpsc::Sender<Entry>,
    position: Arc<Position>,
    journal: Arc<dyn Journal>,
}

/// How far the log has been handed to the sockets.
#[derive(Debug)]
pub struct Position {
    epoch: RwLock<Arc<str>>,
    offset: AtomicU64,
    /// How many memberships have changed.
    memberships: AtomicU64,
}

impl Log {
    /// A log that goes on where `journal` ends, and its entries as they come, for [`local::start`].
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn open(journal: Arc<dyn Journal>) -> Result<(Self, mpsc::Receiver<Entry>), Error> {
        let (epoch, offset) = (journal.epoch().await?, journal.offset().await?);
        let position = Arc::new(Position::new(&epoch, offset));
        let (entries, queue) = mpsc::channel(QUEUE);
        Ok((Self { entries, position, journal }, queue))
    }

    /// Appends what a store has just committed. Called on the store's own thread, in commit order.
    ///
    /// When the queue is full this blocks, and with it all writes of the chat: then they wait for the sockets' workers,
    /// and their senders are refused in time by the rooms. Dropping the entry instead would break the order. The wait is
    /// short, because a worker takes a batch without ever waiting for a client.
    pub fn append(&self, entry: Entry) {
        if matches!(entry, Entry::Joined { .. } | Entry::Left { .. } | Entry::Archived { .. }) {
            self.position.memberships.fetch_add(1, Ordering::AcqRel);
        }
        let full = match self.entries.try_send(entry) {
            Err(mpsc::error::TrySendError::Full(entry)) => entry,
            // Closed: the process is ending, and what is stored will be read from history.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
        };
        metrics::counter!("godzilla_chat_log_full_total").increment(1);
        let _ = self.entries.blocking_send(full);
    }

    /// Appends what needs no store.
    pub async fn tell(&self, entry: Entry) {
        let _ = self.entries.send(entry).await;
    }

    /// Waits until everything appended so far was handed to the sockets.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.tell(Entry::Flushed(done)).await;
        let _ = flushed.await;
    }

    /// Whether somebody takes what is appended.
    pub fn is_open(&self) -> bool {
        !self.entries.is_closed()
    }

    /// Changes whenever a membership was committed: a socket that enters the rooms of its user compares it before and after,
    /// because a change in between was told to sockets that this one did not belong to yet.
    pub fn memberships(&self) -> u64 {
        self.position.memberships.load(Ordering::Acquire)
    }

    /// How far everything was handed to the sockets. Whoever enters a room after asking this hears all that comes later.
    pub fn reached(&self) -> u64 {
        self.position.offset.load(Ordering::Acquire)
    }

    /// An offset as clients see it; they only ever give it back.
    pub fn show(&self, offset: u64) -> String {
        self.position.show(Some(offset))
    }

    /// What an offset says that a client gave back.
    pub fn read(&self, shown: &str) -> Shown {
        let parts = shown.rsplit_once('-').and_then(|(epoch, offset)| Some((epoch, offset.parse().ok()?)));
        match parts {
            Some((epoch, offset)) if epoch == &*self.position.epoch() => Shown::Here(offset),
            Some((epoch, _)) if epoch.len() == EPOCH && is_lower_hex(epoch) => Shown::Elsewhere,
            Some((NOWHERE, _)) => Shown::Elsewhere,
            _ => Shown::Nothing,
        }
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

impl Position {
    fn new(epoch: &str, offset: u64) -> Self {
        Self { epoch: RwLock::new(epoch.into()), offset: offset.into(), memberships: 0.into() }
    }

    /// The epoch of all offsets that are shown now.
    fn epoch(&self) -> Arc<str> {
        self.epoch.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An offset as clients see it; they only ever give it back. Without one it is an offset from which nobody goes on.
    fn show(&self, offset: Option<u64>) -> String {
        match offset {
            Some(offset) => format!("{}-{offset}", self.epoch()),
            None => format!("{NOWHERE}-0"),
        }
    }

    fn reach(&self, offset: u64) {
        self.offset.fetch_max(offset, Ordering::AcqRel);
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
