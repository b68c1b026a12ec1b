//! The queue of the broker: entries in the order in which they reach the sockets of this node.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Control, Entry, StreamPosition};

/// The maximum number of queued entries: at most 8 MiB at the default text limit.
const LENGTH: usize = 1024;

/// The sending half of the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    entries: mpsc::Sender<Entry>,
    position: Arc<StreamPosition>,
}

impl Queue {
    /// An empty queue for entries up to `position`, and its receiving half, for [`super::fanout_actor::start`].
    pub fn new(position: Arc<StreamPosition>) -> (Self, mpsc::Receiver<Entry>) {
        let (entries, queue) = mpsc::channel(LENGTH);
        (Self { entries, position }, queue)
    }

    /// Appends an entry that a store has just committed. Called on the store's own thread, in commit order.
    ///
    /// Blocks while the queue is full, and with it all writes of the chat. The writes then wait for the sockets' workers, and rooms refuse
    /// their senders in time. To drop the entry instead would break the order. The wait is short, because a worker takes a batch
    /// without waiting for a client.
    pub fn append(&self, entry: Entry) {
        self.count(&entry);
        if let Err(mpsc::error::TrySendError::Full(entry)) = self.entries.try_send(entry) {
            metrics::counter!("godzilla_chat_broker_queue_full_total").increment(1);
            let _ = self.entries.blocking_send(entry);
        }
        // Closed: the process ends, and clients will read stored messages from history.
    }

    /// Appends an entry. Waits while the queue is full.
    pub async fn send(&self, entry: impl Into<Entry>) {
        let entry = entry.into();
        self.count(&entry);
        let _ = self.entries.send(entry).await;
    }

    /// Waits until all entries that were appended so far were delivered to the sockets of this node.
    pub async fn flush(&self) {
        let (done, mut flushed) = mpsc::channel(1);
        self.send(Control::Flushed(done)).await;
        let _ = flushed.recv().await;
    }

    /// Whether the receiving half was dropped.
    pub fn is_closed(&self) -> bool {
        self.entries.is_closed()
    }

    fn count(&self, entry: &Entry) {
        if entry.changes_memberships() {
            self.position.count_membership_change();
        }
    }
}
