//! Appends messages to the stream, those of each room in order.

use std::sync::atomic::Ordering;

use proto::RoomName;

use super::{
    MIN_LENGTH, Stream, epoch_changed,
    record::{MessageRecord, StreamRecord},
    scripts,
};
use crate::{Error, history::StoredMessage, redis};

/// The number of missing messages in one append.
const BACKFILL_PAGE: usize = 64;

/// The number of messages before the first new one that are published for a room that is absent in the stream. A crash leaves fewer
/// unpublished messages.
const BACKFILL_BEFORE: u64 = 64;

/// The outcome of an append.
enum Appended {
    /// All messages are in the stream.
    Complete,
    /// The room's messages after this `seq` and before the first one are missing.
    Gap(u64),
    /// The room is absent in the stream.
    Unknown,
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
        let mut begins = is_first_attempt && first == 1;
        let mut records: Vec<MessageRecord> =
            messages.into_iter().map(|stored| MessageRecord::new(stored, false)).collect();
        for _ in 0..3 {
            match self.append(room, &records, begins).await? {
                Appended::Complete => return Ok(()),
                Appended::Gap(last) => self.backfill(room, last, first, false).await?,
                Appended::Unknown => {
                    self.backfill(room, first.saturating_sub(1 + BACKFILL_BEFORE), first, true).await?;
                    // Nodes may have delivered these messages from the store, too.
                    records.iter_mut().for_each(|record| record.again = true);
                    begins |= first == 1;
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
            self.append(room, &records, begins).await?;
            (last, begins) = (end, false);
        }
        Ok(())
    }

    /// Appends records. Those that the stream has already are skipped.
    async fn append(
        &self,
        room: &RoomName,
        records: &[MessageRecord],
        begins: bool,
    ) -> Result<Appended, Error> {
        let mut script = scripts::APPEND.prepare_invoke();
        for key in [redis::EPOCH, redis::OFFSET, redis::STREAM, redis::HEADS] {
            script.key(self.redis.key(key));
        }
        script.arg(&*self.position.epoch()).arg(room.as_str()).arg(MIN_LENGTH).arg(&self.node);
        script.arg(u8::from(begins));
        for record in records {
            script.arg(record.seq()).arg(StreamRecord::Message(record.clone()).encode());
        }
        let (outcome, number): (String, u64) =
            self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
        Ok(match outcome.as_str() {
            "gap" => Appended::Gap(number),
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
}
