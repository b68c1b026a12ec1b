//! Delivers messages from the store that are missing in the stream, and publishes them later. Called by [`super::follow`].

use std::{collections::HashSet, sync::PoisonError, time::Duration};

use proto::RoomName;
use tokio::time::{Instant, sleep_until, timeout};

use super::follow::Follower;
use crate::unpublished::Noted;

/// The timeout of a read of one room, and of one pass over all rooms.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of messages of one room in one read.
const PAGE: usize = 100;

/// The time after which a node publishes the messages that another node has noted, because that node may have ended.
const TAKEOVER_AFTER: Duration = Duration::from_secs(3);

/// The number of failures in one pass over the backlog. A room whose messages cannot be published does not keep others waiting.
const MAX_FAILURES: u32 = 3;

impl Follower {
    /// Delivers the stored messages of a room after `delivered` and before `end`, with `offset`. Returns false when the store does not
    /// answer.
    pub(super) async fn deliver_room(
        &self,
        room: &RoomName,
        mut delivered: u64,
        end: Option<u64>,
        offset: Option<u64>,
    ) -> bool {
        loop {
            let found = timeout(READ_TIMEOUT, self.stream.history.since(room, delivered, PAGE)).await;
            let Ok(Ok(slice)) = found else {
                tracing::warn!(%room, "messages that are missing in the stream cannot be read from the store; retrying");
                return false;
            };
            let missing =
                slice.messages.into_iter().filter(|stored| end.is_none_or(|end| stored.message.seq < end));
            let previous = delivered;
            for stored in missing {
                delivered = stored.message.seq;
                metrics::counter!("godzilla_chat_stream_gap_repaired_total").increment(1);
                self.deliver(stored, offset).await;
            }
            let last = end.map_or(slice.head, |end| end - 1);
            if delivered >= last || delivered == previous {
                return true;
            }
        }
    }

    /// Delivers all stored messages of all subscribed rooms that were not delivered, within [`READ_TIMEOUT`].
    pub(super) async fn deliver_from_history(&self) {
        let backlog: HashSet<RoomName> = self.stream.backlog().into_iter().collect();
        let mut heads = self.stream.dedup().heads();
        // The rooms to which this node has written come first.
        heads.sort_by_key(|(room, _)| !backlog.contains(room));
        let until = Instant::now() + READ_TIMEOUT;
        for (room, delivered) in heads {
            let delivering = async {
                if let Ok(head) = self.stream.history.head(&room).await
                    && head.seq > delivered
                {
                    self.deliver_room(&room, delivered, None, None).await;
                }
            };
            tokio::select! {
                () = delivering => {}
                () = sleep_until(until) => return,
            }
        }
    }

    /// Delivers the messages that this node could not publish.
    pub(super) async fn deliver_backlog(&self) {
        for room in self.stream.backlog() {
            self.deliver_new(&room).await;
        }
    }

    /// Delivers the messages that any node could not publish.
    pub(super) async fn deliver_unpublished(&mut self) {
        let noted = match self.stream.unpublished.all().await {
            Ok(noted) => noted,
            Err(error) => {
                return tracing::debug!(%error, "the rooms with unpublished messages cannot be read; retrying");
            }
        };
        let rooms: HashSet<RoomName> = noted.iter().map(|noted| noted.room.clone()).collect();
        self.noted.retain(|room, _| rooms.contains(room));
        for Noted { room, last, .. } in noted {
            let since = *self.noted.entry(room.clone()).or_insert_with(Instant::now);
            if self.stream.dedup().head(&room).is_some_and(|delivered| delivered < last) {
                self.deliver_new(&room).await;
            }
            if since.elapsed() >= TAKEOVER_AFTER {
                self.stream.add_to_backlog(&room);
            }
        }
    }

    /// Publishes the messages of the backlog's rooms that are missing in the stream. Stops after [`MAX_FAILURES`].
    pub(super) async fn publish_backlog(&self) {
        let mut failures = 0;
        for room in self.stream.backlog() {
            let publishing = async {
                let head = self.stream.publish_missing(&room).await?;
                // Removed before the note is resolved: the node that stores a later message publishes it, or notes the room again.
                self.stream.backlog.lock().unwrap_or_else(PoisonError::into_inner).remove(&room);
                self.stream.unpublished.resolve(&room, head).await
            };
            if let Err(error) = publishing.await {
                tracing::debug!(%room, %error, "missing messages cannot be published to the stream; retrying");
                failures += 1;
                if failures == MAX_FAILURES {
                    return;
                }
            }
        }
    }

    /// Delivers the stored messages of a room that were not delivered, unless the stream has them too. Then they are read from the
    /// stream next, with their offsets.
    async fn deliver_new(&self, room: &RoomName) {
        let delivered = self.stream.dedup().head(room);
        if let Some(delivered) = delivered
            && self.stream.published_head(room).await.is_none_or(|published| published <= delivered)
        {
            self.deliver_room(room, delivered, None, None).await;
        }
    }
}
