//! The limits of a [`super::send_queue`] and the outcomes of a push.

use std::{sync::Arc, time::Duration};

use super::budget::Budget;
use crate::Config;

/// The outcome of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushOutcome {
    /// The frame is queued.
    Queued,
    /// The frame is queued, and the client lags ([`Pressure::Behind`]).
    Lagging,
    /// The frame was volatile and the queue is half full: dropped.
    Dropped,
    /// The queue is full. The connection must be closed.
    Full,
    /// The connection is closing: dropped.
    Closed,
}

/// Limits of one send queue.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// The largest number of queued bytes.
    pub(crate) bytes: usize,
    /// The largest number of queued frames. Frames that were pushed together count as one.
    pub(crate) frames: usize,
    /// The longest time without progress while frames are queued.
    pub(crate) stall: Duration,
    /// The budget that all send queues of the server share.
    pub(crate) budget: Arc<Budget>,
}

impl Limits {
    /// The limits of a configuration.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            bytes: config.send_queue_bytes,
            frames: config.send_queue_frames,
            stall: config.stall_timeout,
            budget: Arc::new(Budget::new(config.queued_bytes)),
        }
    }
}

/// The fill level of a send queue from which senders wait. One batch of a sender that waits for lagging
/// clients fits between the two levels, and one more above the second level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// More than three eighths: the sender whose events fill the queue waits.
    Behind,
    /// More than five eighths: another batch could fill the queue. All senders wait, in at most
    /// [`super::send_queue::MAX_GLOBAL_WAITS`] checks.
    Critical,
}
