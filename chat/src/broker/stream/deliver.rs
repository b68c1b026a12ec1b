//! Delivers the messages of records, and refuses records that no node has written. Called by [`super::follow`].

use std::sync::{PoisonError, atomic::Ordering};

use proto::RoomName;
use socketio::SocketId;

use super::{dedup::Verdict, epoch_changed, follow::Follower, record::MessageRecord};
use crate::{Error, broker::RoomEvent, history::StoredMessage};

/// A number of missing messages in a room beyond which the `seq` of a record is compared with the store. After a delivery of a `seq` that
/// does not exist, all messages of the room would count as duplicates.
const LARGE_GAP: u64 = 10_000;

impl Follower {
    /// Checks that a node has assigned this offset, which does not directly follow the last one.
    ///
    /// # Errors
    /// When it is beyond the last offset of the stream, or the epoch has ended, or Redis does not answer. The record is not processed, so
    /// its offset does not become the position of this node.
    pub(super) async fn check_assigned(&self, offset: u64) -> Result<(), Error> {
        let state = self.stream.redis.open_epoch().await?;
        let is_assigned = *state.epoch == *self.stream.position.epoch() && offset <= state.last;
        if is_assigned { Ok(()) } else { Err(epoch_changed()) }
    }

    /// Whether the store lacks the message `seq` of a room, so that no node has published it. False when the store does not answer.
    async fn is_beyond_history(&self, room: &RoomName, seq: u64) -> bool {
        let is_beyond = self.stream.history.head(room).await.is_ok_and(|head| head.seq < seq);
        if is_beyond {
            metrics::counter!("godzilla_chat_stream_unreadable_total").increment(1);
            tracing::warn!(%room, seq, "a record of the stream has a number that the store lacks and is ignored");
        }
        is_beyond
    }

    /// Delivers the message of a record, and before it the messages that are missing.
    pub(super) async fn deliver_record(&mut self, message: MessageRecord, offset: u64) {
        let (room, seq, again) = (message.room().clone(), message.seq(), message.again);
        let verdict = {
            let mut dedup = self.stream.dedup();
            dedup.confirm(&room, seq);
            dedup.judge(&room, seq, again)
        };
        match verdict {
            Verdict::Duplicate => return,
            Verdict::Deliver => {}
            // The missing messages get the offset before this record, so a client that has received them recovers from there.
            Verdict::Gap(delivered) => {
                if seq - delivered > LARGE_GAP && self.is_beyond_history(&room, seq).await {
                    return;
                }
                _ = self.deliver_room(&room, delivered, Some(seq), Some(offset.saturating_sub(1))).await
            }
        }
        self.deliver(message.into_stored(), Some(offset)).await;
    }

    /// Sends a message to the broker's queue and records the delivery.
    pub(super) async fn deliver(
        &self,
        StoredMessage { message, origin }: StoredMessage,
        offset: Option<u64>,
    ) {
        match offset {
            Some(_) => self.stream.dedup().record(&message.room, message.seq),
            None => {
                let count = self.stream.fallback_deliveries.fetch_add(1, Ordering::AcqRel) + 1;
                self.stream.dedup().record_fallback(&message.room, message.seq, count);
            }
        }
        let last_delivered = (message.room.clone(), message.seq, message.id.clone());
        *self.stream.last_delivered.lock().unwrap_or_else(PoisonError::into_inner) = Some(last_delivered);
        let origin = origin.map(|socket| SocketId::from_stored(&socket));
        let event = RoomEvent::message(message, origin, offset).resumable(self.stream.is_confirmed());
        self.entries.send(event).await;
    }
}
