//! The task that delivers the records of the stream in order, and messages from the store while the stream is unavailable. Started
//! by [`crate::start`]; feeds [`super::super::fanout_actor`].
//!
//! Keys in Redis may be lost while it runs. Twice a second the task checks that the stream is intact and has the same epoch, that no
//! record was trimmed before it was read, and whether nodes have messages that they could not publish.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use proto::RoomName;
use remote::redis::{
    AsyncCommands, RedisError,
    aio::MultiplexedConnection,
    streams::{StreamId, StreamReadOptions, StreamReadReply},
};
use socketio::SocketId;
use tokio::time::{Instant, sleep};

use super::{
    Opened, Stream,
    maintenance::{announce_pending, trim},
    record::StreamRecord,
};
use crate::{
    Error,
    broker::{Control, Queue},
    redis::{self, EpochState},
};

/// How long one read waits for new records.
const WAIT: Duration = Duration::from_millis(500);

/// The maximum number of records in one read.
const BATCH: usize = 128;

/// The interval between two checks of the stream. Also the interval between two reads of the store, and between two attempts to
/// connect, while the stream is unavailable.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// The number of checks in a row that must fail until the stream counts as unavailable although it can be read.
const MAX_FAILURES: u32 = 4;

/// A remote change that this node applies beside its sockets.
#[derive(Debug)]
pub enum RemoteChange {
    /// Another node has changed this room.
    RoomChanged(RoomName),
    /// The client of this socket reconnected to another node.
    SocketSuperseded(SocketId),
    /// Any room may have changed.
    AnyRoomChanged,
}

/// The callback that receives [`RemoteChange`].
pub type OnRemoteChange = Box<dyn Fn(RemoteChange) + Send + Sync>;

/// The state of the task.
pub(super) struct Follower {
    pub(super) stream: Arc<Stream>,
    pub(super) entries: Queue,
    pub(super) on_remote_change: OnRemoteChange,
    /// The offset of the last processed record.
    last: u64,
    /// The time since which this node has seen each room with unpublished messages.
    pub(super) noted: HashMap<RoomName, Instant>,
    /// The rooms with changes that the store has and whose records were not read yet, with the versions at the last read of the store.
    pub(super) overdue: HashMap<RoomName, u64>,
}

/// The state of the periodic checks while the stream is read.
struct Checks {
    next: Instant,
    /// The last offset of the stream at the last check. It must be processed by the next one.
    expected: u64,
    failures: u32,
    /// The messages that were [`Stream::confirmable`] at the last check.
    confirmable: Vec<(RoomName, u64)>,
}

/// Follows the stream until the broker's queue is closed.
pub async fn follow(opened: Opened, entries: Queue, on_remote_change: OnRemoteChange) {
    let Opened { stream, position, changes } = opened;
    let announcing =
        actix_rt::spawn(supervision::essential("log changes", announce_pending(stream.clone(), changes)));
    let trimmed = stream.clone();
    let trimming = actix_rt::spawn(supervision::restart("log retention", move || trim(trimmed.clone())));
    let mut follower = Follower {
        last: position.reached(),
        stream,
        entries,
        on_remote_change,
        noted: HashMap::new(),
        overdue: HashMap::new(),
    };
    while !follower.entries.is_closed() {
        match follower.stream.redis.connect_reader().await {
            Ok((connection, state)) => {
                if let Err(error) = follower.read(connection, state).await {
                    tracing::warn!(%error, "the stream is unavailable, messages are delivered from the store");
                    follower.stream.set_unavailable(&error);
                }
            }
            Err(error) => follower.stream.set_unavailable(&error),
        }
        follower.apply_missed_changes().await;
        follower.deliver_unpublished().await;
        follower.deliver_from_history().await;
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = follower.stream.wake.notified() => {}
        }
    }
    announcing.abort();
    trimming.abort();
}

impl Follower {
    /// Delivers the records of the stream until the connection fails or the epoch ends.
    async fn read(&mut self, mut connection: MultiplexedConnection, state: EpochState) -> Result<(), Error> {
        let mut has_missed = self.switch_epoch(&state) || !self.stream.is_available();
        self.stream.available.store(true, Ordering::Release);
        let now = Instant::now();
        let mut checks = Checks { next: now + PAUSE, expected: 0, failures: 0, confirmable: vec![] };
        loop {
            let entries = self.read_batch(&mut connection).await?;
            let is_all = entries.len() < BATCH;
            for entry in entries {
                has_missed |= self.process(entry).await;
            }
            if is_all && self.last < state.base {
                self.last = state.base;
                self.stream.position.reach(state.base);
            }
            if is_all && Instant::now() >= checks.next {
                has_missed |= self.check(&mut checks).await?;
                checks.next = Instant::now() + PAUSE;
            }
            if is_all && has_missed {
                // Messages that were stored while the stream was unavailable, or whose records are lost.
                self.deliver_from_history().await;
                has_missed = false;
            }
        }
    }

    /// Switches to the epoch of `state` if it is not the current epoch. Returns whether it has switched.
    fn switch_epoch(&self, state: &EpochState) -> bool {
        if *self.stream.position.epoch() == *state.epoch {
            return false;
        }
        tracing::warn!(
            "the stream has a new epoch: clients that reconnect load missed messages from history"
        );
        self.stream.position.begin_epoch(&state.epoch);
        true
    }

    /// Reads the next records. Meanwhile delivers messages that this node could not publish.
    async fn read_batch(&self, connection: &mut MultiplexedConnection) -> Result<Vec<StreamId>, Error> {
        let options = StreamReadOptions::default().block(WAIT.as_millis() as usize).count(BATCH);
        let (key, from) = (self.stream.redis.key(redis::STREAM), format!("{}-0", self.last));
        let (keys, ids) = ([key], [from]);
        let mut read = std::pin::pin!(connection.xread_options(&keys, &ids, &options));
        let reply: Result<Option<StreamReadReply>, RedisError> = loop {
            tokio::select! {
                reply = &mut read => break reply,
                () = self.stream.wake.notified() => {
                    self.deliver_backlog().await;
                    self.apply_unchecked().await;
                }
            }
        };
        let reply = reply.map_err(|error| Error::Store(error.to_string()))?;
        Ok(reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect())
    }

    /// Checks the stream, and delivers messages that other nodes could not publish. Returns whether records were lost before they were
    /// read.
    ///
    /// # Errors
    /// When the epoch has ended, or several checks in a row have failed.
    async fn check(&mut self, checks: &mut Checks) -> Result<bool, Error> {
        let state = match self.stream.redis.open_epoch().await {
            Ok(state) => state,
            Err(error) => {
                checks.failures += 1;
                return if checks.failures < MAX_FAILURES { Ok(false) } else { Err(error) };
            }
        };
        checks.failures = 0;
        for (room, seq) in checks.confirmable.drain(..) {
            self.stream.dedup().confirm(&room, seq);
        }
        checks.confirmable = self.stream.confirmable().await;
        if *self.stream.position.epoch() != *state.epoch {
            return Err(super::epoch_changed());
        }
        let is_lost = self.last < checks.expected;
        if is_lost {
            tracing::warn!(
                "records of the stream were lost before they were read, messages are delivered from the store"
            );
            self.last = checks.expected;
            self.entries.send(Control::Reached(self.last)).await;
        }
        checks.expected = state.last;
        self.apply_missed_changes().await;
        self.deliver_unpublished().await;
        self.publish_backlog().await;
        Ok(is_lost)
    }

    /// Processes one record. Returns whether records before it are missing.
    async fn process(&mut self, entry: StreamId) -> bool {
        let number = entry.id.split_once('-').and_then(|(number, _)| number.parse::<u64>().ok());
        let Some(offset) = number else { return false };
        let is_next = offset.checked_sub(1) == Some(self.last);
        let text: Option<Vec<u8>> = entry.get("entry");
        let is_own = entry.get::<String>("node").is_some_and(|node| node == self.stream.node);
        match text.and_then(|text| StreamRecord::decode(&text)) {
            Some(StreamRecord::Message(message)) => self.deliver_record(message, offset).await,
            Some(change) => self.apply_change(change, is_own, offset).await,
            None => {}
        }
        self.last = offset;
        // A record without a delivery advances the position, too.
        self.entries.send(Control::Reached(offset)).await;
        !is_next
    }
}
