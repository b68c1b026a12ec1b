//! The health of a writer thread: whether it runs and makes progress. Written by the thread and by the callers that queue jobs, read
//! by [`Database`](crate::Database) on any thread.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::hooks;

/// A writer hangs when one batch takes longer than this, or when a job waits for longer. Most of the time of a batch is its fsync, which
/// takes milliseconds, or some hundred milliseconds on a busy disk.
const HANG_TIMEOUT: Duration = Duration::from_secs(3);

/// The health of one writer.
pub struct Health {
    start: Instant,
    /// The start of the current batch, in milliseconds since `start` plus one; 0 while the writer is idle.
    began: AtomicU64,
    /// The time when each waiting job was queued, in milliseconds since `start`, oldest first. At most as many as the queue has room for.
    waiting: Mutex<VecDeque<u64>>,
    has_ended: AtomicBool,
}

/// Held by the writer thread. Its drop records the end of the thread, and reports a failure unless the end is expected.
pub struct ThreadGuard<'a> {
    health: &'a Health,
    is_expected: bool,
}

/// Held while a batch runs. A panic drops it before the jobs of the batch, so a caller that gets an error then finds that the thread has
/// ended.
#[must_use]
pub struct BatchGuard<'a>(&'a Health);

impl Drop for BatchGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.has_ended.store(true, Ordering::Release);
        }
    }
}

impl Health {
    /// The health of an idle writer.
    pub fn new() -> Self {
        let (began, has_ended) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { start: Instant::now(), began, waiting: Mutex::default(), has_ended }
    }

    /// Records that a job is about to be queued.
    pub fn queued(&self) {
        self.waiting().push_back(self.now());
    }

    /// Removes the latest job, for which the queue has no room.
    pub fn refused(&self) {
        self.waiting().pop_back();
    }

    /// Records that the writer has taken the oldest job.
    pub fn taken(&self) {
        self.waiting().pop_front();
    }

    /// A guard for the writer thread.
    pub fn guard(&self) -> ThreadGuard<'_> {
        ThreadGuard { health: self, is_expected: false }
    }

    /// Records the start of a batch. Hold the guard until the batch is done.
    pub fn begin(&self) -> BatchGuard<'_> {
        self.began.store(self.now() + 1, Ordering::Relaxed);
        BatchGuard(self)
    }

    /// Records the end of a batch.
    pub fn end(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    /// Whether the thread runs, and neither a batch nor a waiting job is older than [`HANG_TIMEOUT`].
    pub fn is_good(&self) -> bool {
        let began = self.began.load(Ordering::Relaxed).checked_sub(1);
        let oldest = self.waiting().front().copied();
        let hangs = |since| Duration::from_millis(self.now().saturating_sub(since)) >= HANG_TIMEOUT;
        !self.has_ended.load(Ordering::Acquire) && !began.into_iter().chain(oldest).any(hangs)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl ThreadGuard<'_> {
    /// Records that the writer ends because its queue is closed.
    pub fn finish(mut self) {
        self.is_expected = true;
    }
}

impl Drop for ThreadGuard<'_> {
    fn drop(&mut self) {
        self.health.has_ended.store(true, Ordering::Release);
        if !self.is_expected {
            hooks::report_failure();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_takes_too_long_is_a_hang_and_an_idle_writer_is_healthy() {
        let mut health = Health::new();
        assert!(health.is_good());
        let _ = health.begin();
        assert!(health.is_good(), "the batch has just begun");
        health.start = Instant::now().checked_sub(HANG_TIMEOUT * 2).expect("a longer uptime");
        assert!(!health.is_good());
        health.end();
        assert!(health.is_good());
        drop(health.guard());
        assert!(!health.is_good());
    }

    #[test]
    fn a_job_that_waits_too_long_is_a_hang_without_a_running_batch() {
        let mut health = Health::new();
        health.queued();
        health.queued();
        assert!(health.is_good(), "the jobs have just been queued");
        health.start = Instant::now().checked_sub(HANG_TIMEOUT * 2).expect("a longer uptime");
        assert!(!health.is_good());
        health.taken();
        assert!(!health.is_good(), "the second job waits");
        health.taken();
        assert!(health.is_good());
        health.queued();
        health.refused();
        health.start = Instant::now().checked_sub(HANG_TIMEOUT * 4).expect("a longer uptime");
        assert!(health.is_good(), "the job was not queued");
        drop(health.guard());
        assert!(!health.is_good());
    }
}
