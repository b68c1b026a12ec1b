//! [`Journal`] in the stream: reads the messages that a client has missed, in pages.

use async_trait::async_trait;
use proto::RoomName;

use super::{Stream, record::StreamRecord, scripts};
use crate::{
    Error, config,
    history::{Journal, Missed, StoredMessage, weight},
    redis,
};

/// The number of records in one page.
const PAGE: usize = 500;

#[async_trait]
impl Journal for Stream {
    async fn missed(&self, rooms: &[RoomName], after: u64, origin: &str) -> Result<Option<Missed>, Error> {
        if self.lacks_delivered(rooms).await {
            return Ok(None);
        }
        let epoch = self.position.epoch();
        let (mut messages, mut bytes, mut at, mut scanned) = (Vec::new(), 0, after, 0);
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
                let Some(StreamRecord::Message(record)) = StreamRecord::decode(&entry) else { continue };
                if !rooms.contains(record.room()) {
                    continue;
                }
                if record.again {
                    // It may have had a record before, so the client may or may not have it.
                    return Ok(None);
                }
                let StoredMessage { message, origin: from } = record.into_stored();
                if from.as_deref() == Some(origin) {
                    continue;
                }
                bytes += weight(&message.data.text);
                if messages.len() == config::RECOVERY || bytes > config::RECOVERY_BYTES {
                    return Ok(None);
                }
                messages.push((at, message));
            }
            if at >= last {
                // Records that are on their way to the sockets of this node must not be delivered from the store afterwards.
                let is_delivered = self.wait_until_delivered(at).await;
                return Ok(is_delivered.then_some(Missed { messages, reached: at }));
            }
        }
    }

    async fn offset(&self) -> Result<u64, Error> {
        Ok(self.redis.open_epoch().await?.last)
    }

    async fn epoch(&self) -> Result<String, Error> {
        Ok(self.redis.open_epoch().await?.epoch)
    }
}
