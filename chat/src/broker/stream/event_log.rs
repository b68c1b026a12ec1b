//! [`EventLog`] in the stream: which function of [`Stream`] implements which method.

use std::{sync::PoisonError, time::Instant};

use async_trait::async_trait;
use proto::{RoomName, event::Message};
use socketio::SocketId;

use super::{Stream, record::StreamRecord};
use crate::{Error, broker::EventLog, history::StoredMessage, room_change::RoomChange};

#[async_trait]
impl EventLog for Stream {
    fn not_ready_reason(&self) -> Option<String> {
        self.unavailable_reason()
    }

    async fn publish(&self, room: &RoomName, messages: Vec<StoredMessage>) -> Result<(), Error> {
        self.publish_or_note(room, messages).await
    }

    /// The task [`super::maintenance::announce_pending`] writes the record of the change, and this node applies the change when it reads the
    /// record, as other nodes do. If the record cannot be written, the change is applied from the store at once, and the record is
    /// written later.
    fn publish_change(&self, change: RoomChange) {
        self.queue_record(StreamRecord::of_change(&change));
    }

    async fn publish_superseded(&self, socket: &SocketId) {
        self.announce_superseded(socket).await;
    }

    async fn subscribe(&self, rooms: &[RoomName]) -> Result<bool, Error> {
        self.add_rooms(rooms).await
    }

    fn subscribe_new(&self, room: &RoomName, rev: u64) {
        self.add_new_room(room, rev);
    }

    async fn wait_for_change(&self, room: &RoomName, rev: u64, subscribed: bool) {
        if !subscribed || self.applied().contains(room) {
            self.wait_until_applied(room, rev).await;
        }
    }

    fn changes_read_up_to(&self) -> Option<Instant> {
        Some(*self.changes_read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn flush(&self) {
        self.wait_until_published_is_delivered().await;
    }

    async fn flush_changes(&self) {
        self.pending.wait_until_written().await;
    }

    fn fallback_deliveries(&self) -> u64 {
        self.fallback_count()
    }

    fn may_be_fallback_delivery(&self, messages: &[(u64, Message)], count: u64) -> bool {
        let dedup = self.dedup();
        messages.iter().any(|(_, message)| dedup.may_be_fallback(&message.room, message.seq, count))
    }

    fn has_unconfirmed_deliveries(&self) -> bool {
        self.dedup().has_unconfirmed()
    }
}
