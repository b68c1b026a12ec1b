//! The bounds of an [`super::send_queue`], and what it answers about them.

use std::{sync::Arc, time::Duration};

use super::budget::Budget;
use crate::Config;

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushOutcome {
    /// It will be sent.
    Queued,
    /// It will be sent, and the client is behind ([`Pressure::Behind`]).
    Lagging,
    /// It was volatile, and the client is behind: left out.
    Skipped,
    /// The client is too far behind: nothing more can be queued, and the connection must end.
    Full,
    /// The connection is ending: nothing more is sent.
    Closed,
}

/// How much may wait, and how long.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) bytes: usize,
    /// Frames, or what was pushed as one.
    pub(crate) frames: usize,
    /// Time without any frame leaving while some wait.
    pub(crate) stall: Duration,
    /// What all send_queues of the server share.
    pub(crate) budget: Arc<Budget>,
}

impl Limits {
    /// The limits of a server's configuration.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            bytes: config.send_queue_bytes,
            frames: config.send_queue_frames,
            stall: config.stall_timeout,
            budget: Arc::new(Budget::new(config.queued_bytes)),
        }
    }
}

/// How full an send_queue is, of those that are worth a wait. Between the two fits one batch of an application that waits for
/// clients that are behind, and above the second one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// More than three eighths: whoever sends to this client waits for it.
    Behind,
    /// More than five eighths: a batch more may be too much. All wait for this client, for [`MAX_GLOBAL_WAITS`] looks at most.
    Critical,
}
