//! A server-wide count of queued bytes. Every [`super::send_queue::SendQueue`] counts its content here.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Queued bytes and their limit. A frame that is shared by several send queues counts in each.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// An empty budget with a limit in bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// Adds queued bytes.
    pub(super) fn acquire(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Removes bytes that are no longer queued.
    pub(super) fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether more bytes are queued than the limit. Then clients that lag are closed earlier.
    pub(super) fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit
    }

    /// The number of queued bytes.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
