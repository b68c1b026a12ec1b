//! Delivers the messages of records. Called by [`super::follow`].

use std::sync::atomic::Ordering;

use socketio::SocketId;

use super::{dedup::Verdict, follow::Follower, record::MessageRecord};
use crate::{broker::RoomEvent, history::StoredMessage};

impl Follower {
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
        let origin = origin.map(|socket| SocketId::from_stored(&socket));
        let event = RoomEvent::message(message, origin, offset).resumable(self.stream.is_confirmed());
        self.entries.send(event).await;
    }
}
