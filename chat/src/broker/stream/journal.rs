//! [`Journal`] in the stream: reads the messages and changes that a client has missed, in pages. The records of changes state which rooms
//! have changed and from which number on; the store has the changed parts in their present state.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{
    Stream,
    missed_changes::MissedChanges,
    record::{MessageRecord, StreamRecord},
    scripts,
};
use crate::{
    Error, config,
    history::{Journal, Missed, MissedBy, StoredMessage, weight},
    redis,
};

/// The number of records in one page.
const PAGE: usize = 500;

#[async_trait]
impl Journal for Stream {
    async fn missed(&self, client: MissedBy<'_>, after: u64) -> Result<Option<Missed>, Error> {
        if self.pending.has_dropped_after(after)
            || self.lacks_delivered(client.rooms).await
            || !self.pending.wait_until_written().await
        {
            return Ok(None);
        }
        let epoch = self.position.epoch();
        let (mut messages, mut bytes, mut at, mut scanned) = (Vec::new(), 0, after, 0);
        let (mut changes, mut last_seqs) = (MissedChanges::default(), HashMap::new());
        loop {
            let mut script = scripts::MISSED.prepare_invoke();
            for key in [redis::EPOCH, redis::OFFSET, redis::BASE, redis::STREAM] {
                script.key(self.redis.key(key));
            }
            script.arg(&*epoch).arg(at).arg(PAGE);
            let page: Option<(u64, Vec<Vec<u8>>)> =
                self.redis.ask(async |mut redis| script.invoke_async(&mut redis).await).await?;
            let Some((last, entries)) = page else { return Ok(None) };
            scanned += entries.len() as u64;
            if scanned > config::RECOVERY_SCAN {
                return Ok(None);
            }
            for entry in entries {
                at += 1;
                match StreamRecord::decode(&entry) {
                    Some(StreamRecord::Message(record)) if client.rooms.contains(record.room()) => {
                        let (room, seq) = (record.room().clone(), record.seq());
                        if last_seqs.insert(room, seq).is_some_and(|last| seq != last + 1) {
                            // A message has two records, or a message lacks its record.
                            return Ok(None);
                        }
                        let Ok(missed) = missed_message(record, client) else { return Ok(None) };
                        bytes += missed.as_ref().map_or(0, |missed| weight(&missed.message.data.text));
                        messages.extend(missed.map(|missed| (at, missed.message)));
                    }
                    Some(StreamRecord::Message(_)) | None => {}
                    Some(record) => {
                        if !changes.add(self, client, record, at) {
                            return Ok(None);
                        }
                    }
                }
                if messages.len() + changes.len() > config::RECOVERY || bytes > config::RECOVERY_BYTES {
                    return Ok(None);
                }
            }
            if at >= last {
                break;
            }
        }
        let Some(changes) = changes.read(&*self.rooms, client.user).await? else { return Ok(None) };
        if messages.len() + changes.iter().map(|(_, missed)| missed.change.items.len()).sum::<usize>()
            > config::RECOVERY
        {
            return Ok(None);
        }
        // Records that are on their way to the sockets of this node must not be delivered from the store afterwards.
        let is_delivered = self.wait_until_delivered(at).await;
        Ok(is_delivered.then_some(Missed { messages, changes, reached: at }))
    }

    async fn offset(&self) -> Result<u64, Error> {
        Ok(self.redis.open_epoch().await?.last)
    }

    async fn epoch(&self) -> Result<String, Error> {
        Ok(self.redis.open_epoch().await?.epoch)
    }
}

/// A record that may have had another record before, so that a client may or may not have its message.
struct Repeated;

/// The message of a record. `None` when the client's own socket has sent it.
fn missed_message(record: MessageRecord, client: MissedBy<'_>) -> Result<Option<StoredMessage>, Repeated> {
    if record.again {
        return Err(Repeated);
    }
    let stored = record.into_stored();
    Ok((stored.origin.as_deref() != Some(client.socket)).then_some(stored))
}
