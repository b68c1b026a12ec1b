//! Putting messages into the stream, each room's in their order, and whether those that are there are the store's.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use proto::RoomName;
use remote::redis::{AsyncCommands, streams::StreamRangeReply};
use tokio::time::sleep;

use super::{
    KEPT, SUSPECTS, Stream, another,
    record::{MessageRecord, StreamRecord},
    scripts,
};
use crate::{
    Error,
    history::StoredMessage,
    redis::{self, Claimed, Damaged},
};

/// Messages put into the stream at once when some are missing.
const FILL: usize = 64;

/// How many messages before the first one the stream is told of a room it does not know: a crash leaves fewer behind.
const BEFORE: u64 = 64;

/// How many of the newest entries are looked at for a message.
const NEWEST: usize = 16;

/// How often the store must lack a message of the stream before it counts as replaced: just after a failover a primary may
/// not yet show what a majority has.
const LOOKS: u32 = 3;

/// Between two of those looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What became of an append.
enum Appended {
    /// All of it is in the stream.
    Whole,
    /// The room's messages after this one are missing in front.
    Behind(u64),
    /// The room goes on to this message in the stream, whose id this is; empty when it is not known.
    Held(u64, String),
    /// Nothing is known of the room.
    Unknown,
}

/// Which of the messages before the room's last one may be passed over, because they are in the stream.
enum Passed {
    /// None before it is known that they are the same.
    None,
    /// All before the room's last one, which is this.
    To(u64),
    /// All.
    All,
}

impl Stream {
    /// Appends `messages`, and before them whatever the stream lacks.
    pub(super) async fn append_all(
        &self,
        room: &RoomName,
        messages: Vec<StoredMessage>,
    ) -> Result<(), Error> {
        let Some(first) = messages.first().map(|kept| kept.message.seq) else { return Ok(()) };
        let fresh: Vec<MessageRecord> =
            messages.into_iter().map(|kept| MessageRecord::new(kept, false)).collect();
        let mut passed = Passed::None;
        for _ in 0..3 {
            match self.append(room, &fresh, false, &passed).await? {
                Appended::Whole => return Ok(()),
                Appended::Behind(last) => self.fill(room, last, first, false).await?,
                Appended::Unknown => self.fill(room, first.saturating_sub(1 + BEFORE), first, true).await?,
                Appended::Held(last, id) => {
                    self.check(room, last, &id).await?;
                    passed = Passed::To(last);
                }
            }
        }
        // Somebody else writes the room, and has put these in by now or will.
        Err(another())
    }

    /// Puts what the stream lacks of a room into it, and answers up to which message that is.
    pub(super) async fn catch_up(&self, room: &RoomName) -> Result<u64, Error> {
        let head = self.history.head(room).await?.seq;
        let last = self.history.since(room, head.saturating_sub(1), 1).await?.messages;
        self.append_all(room, last).await?;
        Ok(head)
    }

    /// Puts the room's messages after `last` and before `first` into the stream, from the store. `again`: they may have been in
    /// it before.
    async fn fill(&self, room: &RoomName, mut last: u64, first: u64, again: bool) -> Result<(), Error> {
        metrics::counter!("godzilla_chat_log_filled_total").increment(1);
        let mut begins = again;
        while last + 1 < first {
            let kept = self.history.since(room, last, FILL).await?.messages;
            let lines: Vec<MessageRecord> = kept
                .into_iter()
                .filter(|kept| kept.message.seq < first)
                .map(|kept| MessageRecord::new(kept, again))
                .collect();
            let Some(end) = lines.last().map(MessageRecord::seq) else { return Ok(()) };
            self.append(room, &lines, begins, &Passed::All).await?;
            (last, begins) = (end, false);
        }
        Ok(())
    }

    async fn append(
        &self,
        room: &RoomName,
        lines: &[MessageRecord],
        begins: bool,
        passed: &Passed,
    ) -> Result<Appended, Error> {
        let mut script = scripts::APPEND.prepare_invoke();
        for key in [redis::EPOCH, redis::OFFSET, redis::STREAM, redis::HEADS, redis::LAST] {
            script.key(self.redis.key(key));
        }
        script.arg(&*self.position.epoch()).arg(room.as_str()).arg(KEPT).arg(&self.node);
        script.arg(u8::from(begins)).arg(match passed {
            Passed::None => String::new(),
            Passed::To(last) => last.to_string(),
            Passed::All => "*".to_owned(),
        });
        for line in lines {
            script.arg(line.seq()).arg(line.id()).arg(StreamRecord::MessageRecord(line.clone()).write());
        }
        let (outcome, number, id): (String, u64, String) =
            self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
        Ok(match outcome.as_str() {
            "behind" => Appended::Behind(number),
            "held" => Appended::Held(number, id),
            "unknown" => Appended::Unknown,
            "another" => {
                self.nudge.notify_one();
                return Err(another());
            }
            _ => {
                self.given.fetch_max(number, Ordering::AcqRel);
                Appended::Whole
            }
        })
    }

    /// Whether the room's last message in the stream is the store's: then those before it are, too. Usually another node has put
    /// them in.
    ///
    /// # Errors
    /// When it is not, which is looked at again by [`super::follow`].
    async fn check(&self, room: &RoomName, seq: u64, id: &str) -> Result<(), Error> {
        if self.has(room, seq, id).await? {
            return Ok(());
        }
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if suspects.len() < SUSPECTS {
            suspects.insert(room.clone());
        }
        drop(suspects);
        self.nudge.notify_one();
        Err(Error::Store("the log has a message that the store lacks".to_owned()))
    }

    /// Whether the store has this message, or had it before it forgot old ones. An empty id is any.
    async fn has(&self, room: &RoomName, seq: u64, id: &str) -> Result<bool, Error> {
        let slice = self.history.since(room, seq.saturating_sub(1), 1).await?;
        Ok(match slice.messages.first() {
            Some(kept) if kept.message.seq == seq => id.is_empty() || kept.message.id == id,
            _ => slice.head >= seq,
        })
    }

    /// Whether the stream has messages that the store lacks, because the store was restored from a backup: of the suspects, and of
    /// all rooms the newest one, and the one that this node has told last. Entries up to `since` are of another history.
    pub(super) async fn is_replaced(&self, since: u64) -> Result<bool, Error> {
        for look in 0..LOOKS {
            if look > 0 {
                sleep(PAUSE).await;
            }
            let lacks =
                self.lacks_newest(since).await? || self.lacks_told().await? || self.lacks_suspect().await?;
            if !lacks {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A Redis that has lost the stream does not show it, and this node still has the message.
    async fn lacks_told(&self) -> Result<bool, Error> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match newest {
            Some((room, seq, id)) => Ok(!self.has(&room, seq, &id).await?),
            None => Ok(false),
        }
    }

    async fn lacks_newest(&self, since: u64) -> Result<bool, Error> {
        let (key, base) = (self.redis.key(redis::STREAM), format!("({since}-0"));
        let entries: StreamRangeReply =
            self.redis.ask(async |mut redis| redis.xrevrange_count(key, "+", base, NEWEST).await).await?;
        let lines =
            entries.ids.iter().filter_map(|entry| StreamRecord::read(&entry.get::<Vec<u8>>("entry")?));
        let newest = lines.into_iter().find_map(|line| match line {
            StreamRecord::MessageRecord(said) => Some(said),
            _ => None,
        });
        match newest {
            Some(said) => Ok(!self.has(said.room(), said.seq(), said.id()).await?),
            None => Ok(false),
        }
    }

    async fn lacks_suspect(&self) -> Result<bool, Error> {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for room in suspects {
            let mut script = scripts::LAST.prepare_invoke();
            script.key(self.redis.key(redis::HEADS)).key(self.redis.key(redis::LAST)).arg(room.as_str());
            let last: Option<(u64, String)> =
                self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
            if let Some((seq, id)) = last
                && !self.has(&room, seq, &id).await?
            {
                return Ok(true);
            }
            self.suspects.lock().unwrap_or_else(PoisonError::into_inner).remove(&room);
        }
        Ok(false)
    }

    /// Begins a new history and a new epoch, because the store of messages was replaced by an older one.
    pub(super) async fn replace(&self) -> Result<Claimed, Error> {
        let epoch = self.position.epoch();
        self.lineage.end(&epoch).await?;
        tracing::error!(
            "the store of messages lacks messages that were delivered: it was restored from a backup; clients reload"
        );
        metrics::counter!("godzilla_chat_store_replaced_total").increment(1);
        self.redis.renew(Damaged { epoch: &epoch, is_replaced: true }).await
    }
}
