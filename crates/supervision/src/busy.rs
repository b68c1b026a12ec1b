//! The time that a part has spent on its current work item. `/readyz` reads it to detect a part that hangs.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Measures the current work item of one part. The part writes it, any thread reads it.
#[derive(Debug)]
pub struct BusyTimer {
    start: Instant,
    /// The start of the current work item, in milliseconds since `start`, plus one. 0 while idle.
    busy_since: AtomicU64,
}

impl BusyTimer {
    /// A timer of an idle part.
    pub fn new() -> Self {
        Self { start: Instant::now(), busy_since: AtomicU64::new(0) }
    }

    /// A work item begins.
    pub fn begin(&self) {
        self.busy_since.store(self.now() + 1, Ordering::Relaxed);
    }

    /// The work item is complete.
    pub fn end(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// Whether the current work item has taken longer than `limit`.
    pub fn is_busy_longer_than(&self, limit: Duration) -> bool {
        let busy_since = self.busy_since.load(Ordering::Relaxed);
        busy_since > 0 && Duration::from_millis((self.now() + 1).saturating_sub(busy_since)) > limit
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl Default for BusyTimer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_current_work_item_takes_time() {
        let mut timer = BusyTimer::new();
        let limit = Duration::from_secs(60);
        assert!(!timer.is_busy_longer_than(limit));
        timer.begin();
        assert!(!timer.is_busy_longer_than(limit));
        timer.start = Instant::now().checked_sub(limit * 2).expect("the machine has been up for longer");
        assert!(timer.is_busy_longer_than(limit));
        timer.end();
        assert!(!timer.is_busy_longer_than(limit));
    }
}
