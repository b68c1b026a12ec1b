//! The records of changes that this node has queued and not written to the stream yet. [`super::announce`] queues them, and
//! [`super::maintenance::announce_pending`] writes them in order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use super::{DELIVERY_TIMEOUT, record::StreamRecord};

/// The maximum number of queued records.
pub const MAX_PENDING: usize = 1024;

/// The queue of records, and its state for recovery: a client that recovers must not miss a change whose record is queued, or was
/// dropped because the queue was full.
#[derive(Debug)]
pub struct PendingRecords {
    queue: mpsc::Sender<StreamRecord>,
    /// The number of records that were queued.
    queued: AtomicU64,
    /// The number of queued records that were written.
    written: AtomicU64,
    /// Notified when a queued record was written.
    was_written: Notify,
    /// Whether the last write of a queued record has failed.
    is_failing: AtomicBool,
    /// The last offset of the stream when a record was dropped; 0 before the first drop.
    dropped_at: AtomicU64,
}

impl PendingRecords {
    /// An empty queue, and its receiving end.
    pub fn new() -> (Self, mpsc::Receiver<StreamRecord>) {
        let (queue, pending) = mpsc::channel(MAX_PENDING);
        let this = Self {
            queue,
            queued: AtomicU64::new(0),
            written: AtomicU64::new(0),
            was_written: Notify::new(),
            is_failing: AtomicBool::new(false),
            dropped_at: AtomicU64::new(0),
        };
        (this, pending)
    }

    /// Queues a record. `reached` is the last offset of the stream.
    ///
    /// # Errors
    /// The record, when the queue is full. It will not be written.
    pub fn push(&self, record: StreamRecord, reached: u64) -> Result<(), Box<StreamRecord>> {
        self.queued.fetch_add(1, Ordering::AcqRel);
        self.queue.try_send(record).map_err(|refused| {
            self.dropped_at.fetch_max(reached, Ordering::AcqRel);
            self.queued.fetch_sub(1, Ordering::AcqRel);
            Box::new(refused.into_inner())
        })
    }

    /// Records that a write of the first queued record has failed.
    pub fn note_failure(&self) {
        self.is_failing.store(true, Ordering::Release);
    }

    /// Records that the first queued record was written.
    pub fn note_written(&self) {
        self.is_failing.store(false, Ordering::Release);
        self.written.fetch_add(1, Ordering::AcqRel);
        self.was_written.notify_waiters();
    }

    /// Whether the last write has failed.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Acquire)
    }

    /// Whether a record after `offset` may have been dropped.
    pub fn has_dropped_after(&self, offset: u64) -> bool {
        offset <= self.dropped_at.load(Ordering::Acquire)
    }

    /// Waits until all records that were queued before are written, at most [`DELIVERY_TIMEOUT`] and not while writes fail. Returns whether
    /// they are.
    pub async fn wait_until_written(&self) -> bool {
        if self.is_failing() {
            return false;
        }
        let queued = self.queued.load(Ordering::Acquire);
        let written = async {
            loop {
                let mut written = std::pin::pin!(self.was_written.notified());
                written.as_mut().enable();
                if self.written.load(Ordering::Acquire) >= queued {
                    return;
                }
                written.await;
            }
        };
        timeout(DELIVERY_TIMEOUT, written).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn record(rev: u64) -> StreamRecord {
        StreamRecord::Changed { room: "tea".parse().unwrap(), rev }
    }

    #[actix_rt::test]
    async fn a_reader_waits_for_the_records_that_were_queued_before() {
        let (pending, mut queue) = PendingRecords::new();
        assert_eq!(pending.wait_until_written().now_or_never(), Some(true), "none is queued");
        pending.push(record(1), 0).unwrap();
        assert_eq!(pending.wait_until_written().now_or_never(), None);
        let mut waiting = Box::pin(pending.wait_until_written());
        assert_eq!((&mut waiting).now_or_never(), None);
        pending.push(record(2), 0).unwrap();
        assert_eq!(queue.try_recv(), Ok(record(1)));
        pending.note_failure();
        assert_eq!(pending.wait_until_written().now_or_never(), Some(false), "the write has failed");
        pending.note_written();
        assert_eq!(waiting.now_or_never(), Some(true), "it does not wait for the second record");
        assert_eq!(pending.wait_until_written().now_or_never(), None);
    }

    #[test]
    fn no_client_recovers_from_before_a_dropped_record() {
        let (pending, _queue) = PendingRecords::new();
        for rev in 0..MAX_PENDING as u64 {
            pending.push(record(rev), 7).unwrap();
        }
        assert!(!pending.has_dropped_after(7));
        assert_eq!(pending.push(record(9), 8), Err(Box::new(record(9))));
        assert_eq!((pending.has_dropped_after(8), pending.has_dropped_after(9)), (true, false));
    }
}
