//! How many bytes wait for all clients of a server together. Every [`super::send_queue::SendQueue`] counts what it global_waits_left here.

use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module. A frame that is shared by many send_queues counts in each.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// Nothing waits yet; more than `limit` bytes is too much.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// So many more bytes wait.
    pub(super) fn acquire(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes wait no more.
    pub(super) fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether more waits than may: then clients that are behind are dropped sooner.
    pub(super) fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit
    }

    /// How many bytes wait.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
