//! How long a part has been at one piece of work: what `/readyz` reads to notice a part that hangs.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Written by the part, read by any thread.
#[derive(Debug)]
pub struct Work {
    start: Instant,
    /// When the piece of work under way was begun, in milliseconds since `start` and one more; 0 while there is none.
    began: AtomicU64,
}

impl Work {
    /// Of a part that is idle.
    pub fn new() -> Self {
        Self { start: Instant::now(), began: AtomicU64::new(0) }
    }

    /// A piece of work is begun.
    pub fn begin(&self) {
        self.began.store(self.now() + 1, Ordering::Relaxed);
    }

    /// It is done.
    pub fn rest(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    /// Whether the piece of work under way has taken longer than `limit`.
    pub fn takes_longer_than(&self, limit: Duration) -> bool {
        let began = self.began.load(Ordering::Relaxed);
        began > 0 && Duration::from_millis((self.now() + 1).saturating_sub(began)) > limit
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl Default for Work {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_under_way_takes_time() {
        let mut work = Work::new();
        let limit = Duration::from_secs(60);
        assert!(!work.takes_longer_than(limit));
        work.begin();
        assert!(!work.takes_longer_than(limit));
        work.start = Instant::now().checked_sub(limit * 2).expect("the machine runs for longer");
        assert!(work.takes_longer_than(limit));
        work.rest();
        assert!(!work.takes_longer_than(limit));
    }
}
