//! Publishes messages that rooms have stored, or hands them to the fallback. Called through [`crate::broker::Broker`].

use std::time::Duration;

use proto::RoomName;
use tokio::time::{Instant, sleep, timeout_at};

use super::{EPOCH_CHANGED, Stream, unavailable};
use crate::{Error, history::StoredMessage, redis};

/// How long an append with an unknown outcome is retried.
const RETRY_FOR: Duration = Duration::from_secs(1);

impl Stream {
    /// Publishes stored messages of one room to the stream. With empty `messages` it publishes the stored messages that are missing in the
    /// stream. When that fails, nodes deliver the messages from the store: this node at once and others within two seconds. They are
    /// published later.
    ///
    /// # Errors
    /// [`Error::Store`] when the messages can neither be published nor noted for other nodes. Then the send must not be acknowledged.
    pub(super) async fn publish_or_note(
        &self,
        room: &RoomName,
        messages: Vec<StoredMessage>,
    ) -> Result<(), Error> {
        let range = messages.first().zip(messages.last());
        let range = range.map(|(first, last)| (first.message.seq, last.message.seq));
        let published = match range {
            _ if !self.is_available() => Err(unavailable()),
            None => self.publish_missing(room).await.map(drop),
            Some(_) => self.append_all(room, messages, true).await,
        };
        let published = match published {
            Err(error) if is_transient(&error) => self.publish_with_retries(room).await,
            published => published,
        };
        let Err(error) = published else { return Ok(()) };
        tracing::debug!(%room, %error, "messages cannot be published to the stream and are delivered from the store");
        metrics::counter!("godzilla_chat_stream_fallback_total").increment(1);
        self.add_to_backlog(room);
        self.wake.notify_one();
        let (first, last) = match range {
            Some(range) => range,
            None => {
                let head = self.history.head(room).await?.seq;
                (head, head)
            }
        };
        self.unpublished.note(room, first, last).await
    }

    /// Publishes the missing messages of a room after an attempt whose outcome is unknown, or that found another writer. A message that
    /// is in the stream must not be delivered from the store as well: clients would receive it without its offset, or twice.
    async fn publish_with_retries(&self, room: &RoomName) -> Result<(), Error> {
        let until = Instant::now() + RETRY_FOR;
        loop {
            match timeout_at(until, self.publish_missing(room)).await {
                Ok(Err(error)) if is_transient(&error) => sleep(RETRY_FOR / 20).await,
                Ok(published) => return published.map(drop),
                Err(_) => return Err(unavailable()),
            }
        }
    }
}

/// Whether a retry may succeed.
fn is_transient(error: &Error) -> bool {
    redis::is_late(error) || matches!(error, Error::Store(why) if why == EPOCH_CHANGED)
}
