//! The log of one process. The store of messages is the log: it gives every message and change its offset in the commit.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use proto::{RoomName, event::Message};
use socketio::SocketId;

use super::{EventLog, Queue, RoomEvent};
use crate::{
    Error,
    directory::RoomChange,
    history::{Journal, Missed, MissedBy, StoredMessage},
};

/// The log of one process. Changes go from the store to the queue, and so do messages, which the rooms append in the commit
/// ([`super::Broker::append`]).
pub struct LocalLog {
    journal: Arc<dyn Journal>,
    queue: Queue,
}

impl LocalLog {
    /// The log in `journal`, whose events go to `queue`.
    pub fn new(journal: Arc<dyn Journal>, queue: Queue) -> Self {
        Self { journal, queue }
    }
}

#[async_trait]
impl Journal for LocalLog {
    async fn missed(&self, client: MissedBy<'_>, after: u64) -> Result<Option<Missed>, Error> {
        self.journal.missed(client, after).await
    }

    async fn offset(&self) -> Result<u64, Error> {
        self.journal.offset().await
    }

    async fn epoch(&self) -> Result<String, Error> {
        self.journal.epoch().await
    }
}

/// No other node publishes or receives events. So there is nothing to subscribe to and to wait for.
#[async_trait]
impl EventLog for LocalLog {
    fn not_ready_reason(&self) -> Option<String> {
        None
    }

    async fn publish(&self, _: &RoomName, _: Vec<StoredMessage>) -> Result<(), Error> {
        Ok(())
    }

    fn publish_change(&self, change: RoomChange) {
        let offset = change.offset;
        self.queue.append(RoomEvent::change(change, offset).into());
    }

    async fn publish_superseded(&self, _: &SocketId) {}

    async fn subscribe(&self, _: &[RoomName]) -> Result<bool, Error> {
        Ok(false)
    }

    fn subscribe_new(&self, _: &RoomName, _: u64) {}

    async fn wait_for_change(&self, _: &RoomName, _: u64, _: bool) {}

    fn changes_read_up_to(&self) -> Option<Instant> {
        None
    }

    async fn flush(&self) {}

    async fn flush_changes(&self) {}

    fn fallback_deliveries(&self) -> u64 {
        0
    }

    fn may_be_fallback_delivery(&self, _: &[(u64, Message)], _: u64) -> bool {
        false
    }

    fn has_unconfirmed_deliveries(&self) -> bool {
        false
    }
}
