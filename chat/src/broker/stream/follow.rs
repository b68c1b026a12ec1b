//! The task that tells what the stream says, in its order, and what the store says while the stream is away. Started by
//! [`crate::start`]; feeds [`super::super::fanout_actor`].
//!
//! What it relies on may vanish while it runs, so it looks twice a second whether the log is whole and still the same, whether
//! entries are gone that were not read, and whether other nodes have messages that they could not write to the log.

use std::{
    collections::HashMap,
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
    time::{Instant, sleep},
};

use super::{
    Opened, Stream,
    dedup::Verdict,
    maintenance::{announce, forget},
    record::{MessageRecord, StreamRecord},
};
use crate::{
    Error,
    broker::Entry,
    history::StoredMessage,
    redis::{self, Claimed, Damaged},
};

/// How long one question for new entries waits.
const WAIT: Duration = Duration::from_millis(500);

/// Entries taken at once.
const BATCH: usize = 128;

/// Between two looks into the store while the stream is away, and between two attempts to reach it.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// So many looks at the log may fail in a row while it can be read.
const FAILURES: u32 = 4;

/// Between two comparisons of the stream with the store.
const COMPARISON: Duration = Duration::from_secs(5);

/// What another node has done that is of interest beside the sockets.
#[derive(Debug)]
pub enum News {
    /// It has changed this room.
    Changed(RoomName),
    /// The client that had this socket has come back there.
    Returned(SocketId),
    /// The store was replaced by an older one: what clients and rooms know may not be there any more.
    Replaced,
}

/// Is told of [`News`].
pub type Tell = Box<dyn Fn(News) + Send + Sync>;

/// What the task has.
pub(super) struct Follower {
    pub(super) stream: Arc<Stream>,
    pub(super) entries: mpsc::Sender<Entry>,
    pub(super) tell: Tell,
    /// The last entry that was told.
    last: u64,
    /// The replacements of the store that clients were told of.
    replaced: u64,
    /// Since when rooms of other nodes are known to have messages that the log lacks.
    pub(super) noted: HashMap<RoomName, Instant>,
    /// When the versions of all rooms were last compared.
    pub(super) swept: Instant,
}

/// What is due while the stream is read.
struct Looks {
    next: Instant,
    next_comparison: Instant,
    /// The log's last offset at the last look: by the next one it must have been read.
    expected: u64,
    failures: u32,
}

/// Follows the stream until nobody takes what it tells.
pub async fn follow(opened: Opened, entries: mpsc::Sender<Entry>, tell: Tell) {
    let Opened { stream, position, changes, claimed } = opened;
    let announce = actix_rt::spawn(supervision::essential("log changes", announce(stream.clone(), changes)));
    let old = stream.clone();
    let forget = actix_rt::spawn(supervision::restart("log retention", move || forget(old.clone())));
    let (last, replaced, noted) = (position.reached(), claimed.replaced, HashMap::new());
    let mut follower = Follower { last, replaced, stream, entries, tell, noted, swept: Instant::now() };
    while !follower.entries.is_closed() {
        match follower.stream.redis.listen().await {
            Ok((connection, claimed)) => {
                if let Err(error) = follower.read(connection, claimed).await {
                    tracing::warn!(%error, "the log is away, messages are told from the store");
                    follower.stream.is_away(&error);
                }
            }
            Err(error) => follower.stream.is_away(&error),
        }
        follower.tell_changes().await;
        follower.tell_untold().await;
        follower.tell_from_store().await;
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = follower.stream.nudge.notified() => {}
        }
    }
    announce.abort();
    forget.abort();
}

impl Follower {
    /// Tells what comes, until the connection fails or the log is another one.
    async fn read(&mut self, mut connection: MultiplexedConnection, claimed: Claimed) -> Result<(), Error> {
        let mut catch_up = self.begin(&claimed).await? || !self.stream.is_alive();
        self.stream.alive.store(true, Ordering::Release);
        let now = Instant::now();
        let mut looks = Looks { next: now + PAUSE, next_comparison: now, expected: 0, failures: 0 };
        loop {
            let entries = self.next(&mut connection).await?;
            let is_all = entries.len() < BATCH;
            for entry in entries {
                catch_up |= self.take(entry).await;
            }
            if is_all && self.last < claimed.base {
                self.last = claimed.base;
                self.stream.position.reach(claimed.base);
            }
            if is_all && Instant::now() >= looks.next {
                catch_up |= self.look(&mut looks).await?;
                looks.next = Instant::now() + PAUSE;
            }
            if is_all && catch_up {
                // What was stored while the stream was away, or was in the part that it has lost.
                self.tell_from_store().await;
                catch_up = false;
            }
        }
    }

    /// Goes on with another epoch, if it is one; whether it is.
    async fn begin(&mut self, claimed: &Claimed) -> Result<bool, Error> {
        let old = self.stream.position.epoch();
        if *old == *claimed.epoch {
            return Ok(false);
        }
        tracing::warn!(
            "the log is another one: clients that come back will load what they missed from history"
        );
        if claimed.replaced > self.replaced {
            let history = self.stream.lineage.end(&old).await?;
            self.replaced = claimed.replaced;
            self.stream.forget_all();
            self.noted.clear();
            self.stream.position.begin_history(&history, &claimed.epoch);
            (self.tell)(News::Replaced);
        } else {
            self.stream.position.begin(&claimed.epoch);
        }
        Ok(true)
    }

    /// The next entries. Tells meanwhile what this node could not write to the log.
    async fn next(&self, connection: &mut MultiplexedConnection) -> Result<Vec<StreamId>, Error> {
        let options = StreamReadOptions::default().block(WAIT.as_millis() as usize).count(BATCH);
        let (key, from) = (self.stream.redis.key(redis::STREAM), format!("{}-0", self.last));
        let (keys, ids) = ([key], [from]);
        let mut read = std::pin::pin!(connection.xread_options(&keys, &ids, &options));
        let reply: Result<Option<StreamReadReply>, RedisError> = loop {
            tokio::select! {
                reply = &mut read => break reply,
                () = self.stream.nudge.notified() => self.tell_behind().await,
            }
        };
        let reply = reply.map_err(|error| Error::Store(error.to_string()))?;
        Ok(reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect())
    }

    /// Whether the log is still whole and the same, and what others could not write to it. Answers whether entries are gone that
    /// were not read.
    async fn look(&mut self, looks: &mut Looks) -> Result<bool, Error> {
        let claimed = match self.stream.redis.claim().await {
            Ok(claimed) => claimed,
            Err(error) => {
                looks.failures += 1;
                return if looks.failures < FAILURES { Ok(false) } else { Err(error) };
            }
        };
        looks.failures = 0;
        let epoch = self.stream.position.epoch();
        if *epoch != *claimed.epoch {
            return Err(super::another());
        }
        if claimed.last < self.last {
            // An older state was put back: what has an offset here may get another one there.
            self.stream.redis.renew(Damaged { epoch: &epoch, is_replaced: false }).await?;
            return Err(super::another());
        }
        let has_suspects = self.stream.has_suspects();
        if has_suspects || Instant::now() >= looks.next_comparison {
            let is_another = *self.stream.lineage.current().await? != *self.stream.position.history();
            if is_another || self.stream.is_replaced(claimed.since).await? {
                self.stream.replace().await?;
                return Err(super::another());
            }
            looks.next_comparison = Instant::now() + COMPARISON;
        }
        let is_gone = self.last < looks.expected;
        if is_gone {
            tracing::warn!("entries of the log are gone before they were read, telling from the store");
            self.last = looks.expected;
            let _ = self.entries.send(Entry::Reached(self.last)).await;
        }
        looks.expected = claimed.last;
        self.tell_changes().await;
        self.tell_untold().await;
        self.heal().await;
        Ok(is_gone)
    }

    /// Tells one entry. Answers whether entries before it are gone.
    async fn take(&mut self, entry: StreamId) -> bool {
        let number = entry.id.split_once('-').and_then(|(number, _)| number.parse().ok());
        let Some(offset) = number else { return false };
        let text: Option<Vec<u8>> = entry.get("entry");
        let is_own = entry.get::<String>("node").is_some_and(|node| node == self.stream.node);
        match text.and_then(|text| StreamRecord::read(&text)) {
            Some(StreamRecord::MessageRecord(said)) => self.say(said, offset).await,
            Some(change) => self.change(change, is_own).await,
            None => {}
        }
        let is_next = offset == self.last + 1;
        self.last = offset;
        // What was not told has a place too.
        let _ = self.entries.send(Entry::Reached(offset)).await;
        !is_next
    }

    async fn say(&mut self, said: MessageRecord, offset: u64) {
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

    pub(super) async fn tell(&self, StoredMessage { message, origin }: StoredMessage, offset: Option<u64>) {
        match offset {
            Some(_) => self.stream.track().told(&message.room, message.seq),
            None => {
                let count = self.stream.unplaced.fetch_add(1, Ordering::AcqRel) + 1;
                self.stream.track().told_unplaced(&message.room, message.seq, count);
            }
        }
        let newest = (message.room.clone(), message.seq, message.id.clone());
        *self.stream.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest);
        let origin = origin.map(|socket| SocketId::from_stored(&socket));
        let _ = self.entries.send(Entry::Message { offset, message, origin }).await;
    }
}
