//! The task that tells what the stream says, in its order, and what the store says while the stream is away. Started by
//! [`crate::start`]; feeds [`super::super::local`].

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use proto::RoomName;
use remote::redis::{
    AsyncCommands, RedisError,
    aio::MultiplexedConnection,
    streams::{StreamId, StreamReadOptions, StreamReadReply},
};
use socketio::SocketId;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Opened, Stream,
    line::{Line, Said},
    scripts,
    track::Verdict,
};
use crate::{
    Error,
    history::Kept,
    log::Entry,
    redis::{self, Claimed},
};

/// How long one question for new entries waits.
const WAIT: Duration = Duration::from_millis(500);

/// Entries taken at once.
const BATCH: usize = 128;

/// Between two looks into the store while the stream is away, and between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the store may take to answer for one room.
const LOOK: Duration = Duration::from_secs(2);

/// How many messages of one room are read from the store at once.
const PAGE: usize = 100;

/// How long entries are kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Between two looks at what may be forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// What another node has done that is of interest beside the sockets.
#[derive(Debug)]
pub enum News {
    /// It has changed this room.
    Changed(RoomName),
    /// The client that had this socket has come back there.
    Returned(SocketId),
}

/// Is told of [`News`].
pub type Tell = Box<dyn Fn(News) + Send + Sync>;

/// What the task has.
struct Follower {
    stream: Arc<Stream>,
    entries: mpsc::Sender<Entry>,
    tell: Tell,
    /// The last entry that was told.
    last: u64,
}

/// Follows the stream until nobody takes what it tells.
pub async fn follow(opened: Opened, entries: mpsc::Sender<Entry>, tell: Tell) {
    let Opened { stream, position, changes } = opened;
    let spread = actix_rt::spawn(supervision::essential("log changes", spread(stream.clone(), changes)));
    let old = stream.clone();
    let forget = actix_rt::spawn(supervision::restart("log retention", move || forget(old.clone())));
    let mut follower = Follower { last: position.reached(), stream, entries, tell };
    while !follower.entries.is_closed() {
        if let Ok((connection, claimed)) = follower.stream.redis.listen().await {
            if let Err(error) = follower.read(connection, claimed).await {
                tracing::warn!(%error, "the log is away, messages are told from the store");
            }
            follower.stream.alive.store(false, Ordering::Release);
            follower.stream.position.moved.notify_waiters();
        }
        follower.tell_from_store().await;
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = follower.stream.nudge.notified() => {}
        }
    }
    spread.abort();
    forget.abort();
}

impl Follower {
    /// Tells what comes, until the connection fails.
    async fn read(&mut self, mut connection: MultiplexedConnection, claimed: Claimed) -> Result<(), Error> {
        let is_another = *self.stream.position.epoch() != *claimed.epoch;
        let mut catch_up = !self.stream.is_alive() || is_another;
        if is_another {
            tracing::warn!(
                "the log is another one: clients that come back will load what they missed from history"
            );
            self.stream.position.begin(&claimed.epoch);
        }
        self.stream.alive.store(true, Ordering::Release);
        loop {
            let options = StreamReadOptions::default().block(WAIT.as_millis() as usize).count(BATCH);
            let from = format!("{}-0", self.last);
            let reply: Result<Option<StreamReadReply>, RedisError> =
                connection.xread_options(&[redis::STREAM], &[&from], &options).await;
            let reply = reply.map_err(|error| Error::Store(error.to_string()))?;
            let entries: Vec<StreamId> =
                reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect();
            let is_all = entries.len() < BATCH;
            for entry in entries {
                self.take(entry).await;
            }
            if is_all && self.last < claimed.base {
                self.last = claimed.base;
                self.stream.position.reach(claimed.base);
            }
            if is_all && catch_up {
                // What was stored while the stream was away, or was in the part that it has lost.
                self.tell_from_store().await;
                self.heal().await;
                catch_up = false;
            }
        }
    }

    /// Tells one entry.
    async fn take(&mut self, entry: StreamId) {
        let number = entry.id.split_once('-').and_then(|(number, _)| number.parse().ok());
        let Some(offset) = number else { return };
        let text: Option<Vec<u8>> = entry.get("entry");
        let is_own = entry.get::<String>("node").is_some_and(|node| node == self.stream.node);
        match text.and_then(|text| Line::read(&text)) {
            Some(Line::Said(said)) => self.say(said, offset).await,
            Some(change) => self.change(change, is_own).await,
            None => {}
        }
        self.last = offset;
        // What was not told has a place too.
        let _ = self.entries.send(Entry::Reached(offset)).await;
    }

    async fn say(&mut self, said: Said, offset: u64) {
        let (room, seq, again) = (said.room().clone(), said.seq(), said.again);
        let verdict = self.stream.track().judge(&room, seq, again);
        match verdict {
            Verdict::Old => return,
            Verdict::Tell => {}
            // They come right before this one, so whoever has heard them goes on with it.
            Verdict::After(known) => _ = self.tell_room(&room, known, Some(seq), Some(offset - 1)).await,
        }
        self.tell(said.into_kept(), Some(offset)).await;
    }

    async fn tell(&self, Kept { message, origin }: Kept, offset: Option<u64>) {
        self.stream.track().told(&message.room, message.seq);
        let origin = origin.map(|socket| SocketId::from_stored(&socket));
        let _ = self.entries.send(Entry::Said { offset, message, origin }).await;
    }

    /// Tells what the store has of a room after `known` and before `end`; answers whether that was all.
    async fn tell_room(
        &self,
        room: &RoomName,
        mut known: u64,
        end: Option<u64>,
        offset: Option<u64>,
    ) -> bool {
        loop {
            let found = timeout(LOOK, self.stream.history.since(room, known, PAGE)).await;
            let Ok(Ok(slice)) = found else {
                tracing::warn!(%room, "messages that the log lacks cannot be read from the store");
                return false;
            };
            let wanted =
                slice.messages.into_iter().filter(|kept| end.is_none_or(|end| kept.message.seq < end));
            let before = known;
            for kept in wanted {
                known = kept.message.seq;
                metrics::counter!("godzilla_chat_log_healed_total").increment(1);
                self.tell(kept, offset).await;
            }
            let last = end.map_or(slice.head, |end| end - 1);
            if known >= last || known == before {
                return true;
            }
        }
    }

    async fn change(&mut self, change: Line, is_own: bool) {
        let room = match &change {
            Line::Joined { room, .. }
            | Line::Left { room, .. }
            | Line::Archived { room, .. }
            | Line::Changed { room } => Some(room.clone()),
            Line::Said(_) | Line::Superseded { .. } => None,
        };
        let entry = match change {
            // It was told here before it was written; again for its place among what others have done meanwhile.
            Line::Joined { room, user } if is_own => Entry::Seated { room, user, is_in: true },
            Line::Left { room, user } if is_own => Entry::Seated { room, user, is_in: false },
            Line::Joined { room, user } => Entry::Joined { room, user },
            Line::Left { room, user } => Entry::Left { room, user },
            Line::Archived { room, members } if !is_own => Entry::Archived { room, members },
            Line::Superseded { socket } if !is_own => Entry::Superseded(SocketId::from_stored(&socket)),
            _ => return,
        };
        if !is_own {
            self.stream.position.note(&entry);
            if let Entry::Superseded(socket) = &entry {
                (self.tell)(News::Returned(socket.clone()));
            }
            if let Some(room) = room {
                (self.tell)(News::Changed(room));
            }
        }
        let _ = self.entries.send(entry).await;
    }

    /// Tells what is stored and was not told, of every room that somebody here listens to.
    async fn tell_from_store(&self) {
        let behind: HashSet<RoomName> =
            self.stream.behind.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut places = self.stream.track().places();
        // Those that this node itself has written to first.
        places.sort_by_key(|(room, _)| !behind.contains(room));
        let until = Instant::now() + LOOK;
        for (room, known) in places {
            let looked = async {
                if let Ok(head) = self.stream.history.head(&room).await
                    && head.seq > known
                {
                    self.tell_room(&room, known, None, None).await;
                }
            };
            tokio::select! {
                () = looked => {}
                () = sleep_until(until) => return,
            }
        }
    }

    /// Puts into the stream what it lacks.
    async fn heal(&self) {
        let behind = std::mem::take(&mut *self.stream.behind.lock().unwrap_or_else(PoisonError::into_inner));
        for room in behind {
            if let Err(error) = self.stream.catch_up(&room).await {
                tracing::debug!(%room, %error, "the log stays behind");
                self.stream.behind.lock().unwrap_or_else(PoisonError::into_inner).insert(room);
            }
        }
    }
}

/// Tells other nodes of changes, in their order, each until it is told.
async fn spread(stream: Arc<Stream>, mut changes: mpsc::Receiver<Line>) {
    while let Some(line) = changes.recv().await {
        while stream.write(&line).await.is_err() {
            sleep(PAUSE).await;
        }
    }
}

/// Lets the stream forget what is too old.
async fn forget(stream: Arc<Stream>) {
    loop {
        let mut script = scripts::FORGET.prepare_invoke();
        script.key(redis::OFFSET).key(redis::STREAM).key(redis::MARKS).arg(KEPT_FOR.as_secs());
        let forgotten =
            stream.redis.ask(async |mut redis| script.invoke_async::<Option<u64>>(&mut redis).await);
        if let Err(error) = forgotten.await {
            tracing::debug!(%error, "the log forgets nothing now");
        }
        sleep(FORGET).await;
    }
}
