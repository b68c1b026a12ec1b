//! Whether a writer's thread lives and moves. Written by the thread and by the callers that queue jobs, read by
//! [`Database`](crate::Database) on any thread.

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

/// A writer that has worked on one batch for longer than this hangs, and so does one that has let a job wait for longer. fsync is most of that time: it takes milliseconds, or some
/// hundred on a busy disk.
const HANGS: Duration = Duration::from_secs(3);

/// The health of one writer.
pub struct Health {
    start: Instant,
    /// When the batch under way was begun, in milliseconds since `start` and one more; 0 while the writer is idle.
    began: AtomicU64,
    /// When each job that waits was queued, in milliseconds since `start`, oldest first. At most as many as the queue has room for.
    waiting: Mutex<VecDeque<u64>>,
    has_ended: AtomicBool,
}

/// Held by the writer's thread; dropping it is the end of the thread.
pub struct Alive<'a> {
    health: &'a Health,
    is_asked: bool,
}

/// Held while a batch is done. A panic drops it before the batch's jobs: a caller that is answered then finds that the thread has
/// ended.
#[must_use]
pub struct Step<'a>(&'a Health);

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.has_ended.store(true, Ordering::Release);
        }
    }
}

impl Health {
    /// Of a writer that is idle.
    pub fn new() -> Self {
        let (began, has_ended) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { start: Instant::now(), began, waiting: Mutex::default(), has_ended }
    }

    /// A job is about to be queued.
    pub fn queued(&self) {
        self.waiting().push_back(self.now());
    }

    /// There is no room for it.
    pub fn refused(&self) {
        self.waiting().pop_back();
    }

    /// The writer has taken the oldest job.
    pub fn taken(&self) {
        self.waiting().pop_front();
    }

    /// The writer takes up its work.
    pub fn alive(&self) -> Alive<'_> {
        Alive { health: self, is_asked: false }
    }

    /// A batch is begun. To be held until it is done.
    pub fn begin(&self) -> Step<'_> {
        self.began.store(self.now() + 1, Ordering::Relaxed);
        Step(self)
    }

    /// The batch is done.
    pub fn rest(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    /// Whether the thread runs, has not worked on one batch for seconds, and no job has waited for seconds.
    pub fn is_good(&self) -> bool {
        let began = self.began.load(Ordering::Relaxed).checked_sub(1);
        let oldest = self.waiting().front().copied();
        let hangs = |since| Duration::from_millis(self.now().saturating_sub(since)) >= HANGS;
        !self.has_ended.load(Ordering::Acquire) && !began.into_iter().chain(oldest).any(hangs)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl Alive<'_> {
    /// The writer ends because nobody can queue anything any more.
    pub fn finish(mut self) {
        self.is_asked = true;
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.health.has_ended.store(true, Ordering::Release);
        if !self.is_asked {
            hooks::failed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_takes_too_long_is_a_hang_and_an_idle_writer_is_not() {
        let mut health = Health::new();
        assert!(health.is_good());
        let _ = health.begin();
        assert!(health.is_good(), "it has just begun");
        health.start = Instant::now().checked_sub(HANGS * 2).expect("the machine runs for longer");
        assert!(!health.is_good());
        health.rest();
        assert!(health.is_good());
        drop(health.alive());
        assert!(!health.is_good());
    }

    #[test]
    fn a_job_that_waits_for_too_long_is_a_hang_although_no_batch_is_under_way() {
        let mut health = Health::new();
        health.queued();
        health.queued();
        assert!(health.is_good(), "they have just been queued");
        health.start = Instant::now().checked_sub(HANGS * 2).expect("the machine runs for longer");
        assert!(!health.is_good());
        health.taken();
        assert!(!health.is_good(), "the second one waits");
        health.taken();
        assert!(health.is_good());
        health.queued();
        health.refused();
        health.start = Instant::now().checked_sub(HANGS * 4).expect("the machine runs for longer");
        assert!(health.is_good(), "it was not queued");
        drop(health.alive());
        assert!(!health.is_good());
    }
}
