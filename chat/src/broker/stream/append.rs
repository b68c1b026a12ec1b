//! Appends messages to the stream, those of each room in order, and checks that the stream and the store have the same messages.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use proto::RoomName;
use remote::redis::{AsyncCommands, streams::StreamRangeReply};
use tokio::time::sleep;

use super::{
    MAX_SUSPECTS, MIN_LENGTH, Stream, epoch_changed,
    record::{MessageRecord, StreamRecord},
    scripts,
};
use crate::{
    Error,
    history::StoredMessage,
    redis::{self, DamagedEpoch, EpochState},
};

/// The number of missing messages in one append.
const BACKFILL_PAGE: usize = 64;

/// The number of messages before the first new one that are published for a room that is absent in the stream. A crash leaves fewer
/// unpublished messages.
const BACKFILL_BEFORE: u64 = 64;

/// The number of the newest records that are searched for a message.
pub(super) const NEWEST: usize = 16;

/// The number of checks in a row in which the store must lack a message of the stream until it counts as replaced. Just after a
/// failover a primary may not yet return what a majority has.
const CHECKS: u32 = 3;

/// The interval between two of these checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The outcome of an append.
enum Appended {
    /// All messages are in the stream.
    Complete,
    /// The room's messages after this `seq` and before the first one are missing.
    Gap(u64),
    /// The stream already has messages of the room up to this `seq`, whose message has this id. It must be verified that they are the
    /// same. The id is empty when it is unknown.
    Unverified(u64, String),
    /// The room is absent in the stream.
    Unknown,
}

/// The messages of an append that may be skipped, because the stream has them.
enum Skip {
    /// No message, until it is verified that they are the same.
    None,
    /// All up to the room's last message in the stream, if its `seq` is this.
    To(u64),
    /// All messages.
    All,
}

impl Stream {
    /// Appends `messages`, and before them the messages that are missing. `is_first_attempt`: no other attempt to publish them was made.
    pub(super) async fn append_all(
        &self,
        room: &RoomName,
        messages: Vec<StoredMessage>,
        is_first_attempt: bool,
    ) -> Result<(), Error> {
        let Some(first) = messages.first().map(|stored| stored.message.seq) else { return Ok(()) };
        // A room without a message has no record yet. Otherwise the stream may have lost the room, and its records are repeated.
        let begins = is_first_attempt && first == 1;
        self.refusals.record(self.append_from(room, first, messages, begins).await)
    }

    async fn append_from(
        &self,
        room: &RoomName,
        first: u64,
        messages: Vec<StoredMessage>,
        mut begins: bool,
    ) -> Result<(), Error> {
        let mut records: Vec<MessageRecord> =
            messages.into_iter().map(|stored| MessageRecord::new(stored, false)).collect();
        let mut skip = Skip::None;
        for _ in 0..3 {
            match self.append(room, &records, begins, &skip).await? {
                Appended::Complete => return Ok(()),
                Appended::Gap(last) => self.backfill(room, last, first, false).await?,
                Appended::Unknown => {
                    self.backfill(room, first.saturating_sub(1 + BACKFILL_BEFORE), first, true).await?;
                    // Nodes may have delivered these messages from the store, too.
                    records.iter_mut().for_each(|record| record.again = true);
                    begins |= first == 1;
                }
                Appended::Unverified(last, id) => {
                    self.verify(room, last, &id).await?;
                    skip = Skip::To(last);
                }
            }
        }
        // Another node writes the room. It has published these messages, or will.
        Err(epoch_changed())
    }

    /// Publishes the stored messages of a room that are missing in the stream. Returns the `seq` of the last stored one.
    pub(super) async fn publish_missing(&self, room: &RoomName) -> Result<u64, Error> {
        let head = self.history.head(room).await?.seq;
        let last = self.history.since(room, head.saturating_sub(1), 1).await?.messages;
        self.append_all(room, last, false).await?;
        Ok(head)
    }

    /// Publishes the stored messages of a room after `last` and before `first`. `again`: they may have had records before.
    async fn backfill(&self, room: &RoomName, mut last: u64, first: u64, again: bool) -> Result<(), Error> {
        metrics::counter!("godzilla_chat_stream_backfilled_total").increment(1);
        let mut begins = again;
        while last + 1 < first {
            let stored = self.history.since(room, last, BACKFILL_PAGE).await?.messages;
            let records: Vec<MessageRecord> = stored
                .into_iter()
                .filter(|stored| stored.message.seq < first)
                .map(|stored| MessageRecord::new(stored, again))
                .collect();
            let Some(end) = records.last().map(MessageRecord::seq) else { return Ok(()) };
            self.append(room, &records, begins, &Skip::All).await?;
            (last, begins) = (end, false);
        }
        Ok(())
    }

    async fn append(
        &self,
        room: &RoomName,
        records: &[MessageRecord],
        begins: bool,
        skip: &Skip,
    ) -> Result<Appended, Error> {
        let mut script = scripts::APPEND.prepare_invoke();
        for key in [redis::EPOCH, redis::OFFSET, redis::STREAM, redis::HEADS, redis::LAST, redis::BASE] {
            script.key(self.redis.key(key));
        }
        script.arg(&*self.position.epoch()).arg(room.as_str()).arg(MIN_LENGTH).arg(&self.node);
        script.arg(u8::from(begins)).arg(match skip {
            Skip::None => String::new(),
            Skip::To(last) => last.to_string(),
            Skip::All => "*".to_owned(),
        });
        for record in records {
            script.arg(record.seq()).arg(record.id()).arg(StreamRecord::Message(record.clone()).encode());
        }
        let (outcome, number, id): (String, u64, String) =
            self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
        Ok(match outcome.as_str() {
            "gap" => Appended::Gap(number),
            "unverified" => Appended::Unverified(number, id),
            "unknown" => Appended::Unknown,
            "epoch_changed" => {
                self.wake.notify_one();
                return Err(epoch_changed());
            }
            _ => {
                self.last_published.fetch_max(number, Ordering::AcqRel);
                Appended::Complete
            }
        })
    }

    /// Verifies that the room's last message in the stream is in the store. Then the messages before it are, too. Usually another node
    /// has published them.
    ///
    /// # Errors
    /// [`Error::Store`] when it is not. Then [`super::follow`] checks the room again.
    async fn verify(&self, room: &RoomName, seq: u64, id: &str) -> Result<(), Error> {
        if self.history_has(room, seq, id).await? {
            return Ok(());
        }
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if suspects.len() < MAX_SUSPECTS {
            suspects.insert(room.clone());
        }
        drop(suspects);
        self.wake.notify_one();
        Err(Error::Store("the stream has a message that the store lacks".to_owned()))
    }

    /// Whether the store has this message, or had it before it deleted old ones. An empty id matches any.
    async fn history_has(&self, room: &RoomName, seq: u64, id: &str) -> Result<bool, Error> {
        let slice = self.history.since(room, seq.saturating_sub(1), 1).await?;
        Ok(match slice.messages.first() {
            Some(stored) if stored.message.seq == seq => id.is_empty() || stored.message.id == id,
            _ => slice.head >= seq,
        })
    }

    /// Whether messages or changes must be compared with the store.
    pub(super) fn has_suspects(&self) -> bool {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        !suspects.is_empty() || self.applied().last_changes.has_suspects()
    }

    /// Whether the stream or this node has messages or changes that the store lacks, because the store was restored from a backup. Checks the
    /// last messages of the suspects, the newest message of the stream, the last message that this node has delivered, and the
    /// changes of [`Stream::lacks_changes`]. Records up to offset `since` are of another history.
    pub(super) async fn is_history_replaced(&self, since: u64) -> Result<bool, Error> {
        for check in 0..CHECKS {
            if check > 0 {
                sleep(CHECK_INTERVAL).await;
            }
            let lacks = self.history_lacks_newest(since).await?
                || self.history_lacks_last_delivered().await?
                || self.history_lacks_suspects().await?
                || self.lacks_changes(since).await?;
            if !lacks {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Checks the last message that this node has delivered. It detects a replacement even when Redis has lost the stream.
    async fn history_lacks_last_delivered(&self) -> Result<bool, Error> {
        let last_delivered = self.last_delivered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last_delivered {
            Some((room, seq, id)) => Ok(!self.history_has(&room, seq, &id).await?),
            None => Ok(false),
        }
    }

    /// Checks the newest message of the stream after offset `since`.
    async fn history_lacks_newest(&self, since: u64) -> Result<bool, Error> {
        let (key, base) = (self.redis.key(redis::STREAM), format!("({since}-0"));
        let entries: StreamRangeReply =
            self.redis.ask(async |mut redis| redis.xrevrange_count(key, "+", base, NEWEST).await).await?;
        let records =
            entries.ids.iter().filter_map(|entry| StreamRecord::decode(&entry.get::<Vec<u8>>("entry")?));
        let newest = records.into_iter().find_map(|record| match record {
            StreamRecord::Message(record) => Some(record),
            _ => None,
        });
        match newest {
            Some(record) => Ok(!self.history_has(record.room(), record.seq(), record.id()).await?),
            None => Ok(false),
        }
    }

    /// Checks the last message of each suspect in the stream, and clears the suspects that are in the store.
    async fn history_lacks_suspects(&self) -> Result<bool, Error> {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for room in suspects {
            let mut script = scripts::ROOM_HEAD.prepare_invoke();
            script.key(self.redis.key(redis::HEADS)).key(self.redis.key(redis::LAST)).arg(room.as_str());
            let last: Option<(u64, String)> =
                self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
            if let Some((seq, id)) = last
                && !self.history_has(&room, seq, &id).await?
            {
                return Ok(true);
            }
            self.suspects.lock().unwrap_or_else(PoisonError::into_inner).remove(&room);
        }
        Ok(false)
    }

    /// Begins a new history and a new epoch, because the store of messages was replaced by an older one. Returns the state of the new
    /// epoch.
    pub(super) async fn replace_history(&self) -> Result<EpochState, Error> {
        let epoch = self.position.epoch();
        self.lineage.end(&epoch).await?;
        tracing::error!(
            "the store lacks messages or changes that were delivered, so it was restored from a backup: a new history begins, clients reload"
        );
        metrics::counter!("godzilla_chat_history_replaced_total").increment(1);
        self.redis.end_epoch(DamagedEpoch { epoch: &epoch, is_replaced: true }).await
    }
}
