//! Whether a writer's thread lives and moves. Written by the thread, read by [`Database`](crate::Database) on any other.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::hooks;

/// A writer that has worked on one batch for longer than this hangs. fsync is most of that time: it takes milliseconds, or some
/// hundred on a busy disk.
const HANGS: Duration = Duration::from_secs(3);

/// The health of one writer.
pub struct Health {
    start: Instant,
    /// When the batch under way was begun, in milliseconds since `start` and one more; 0 while the writer is idle.
    began: AtomicU64,
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
        Self { start: Instant::now(), began: AtomicU64::new(0), has_ended: AtomicBool::new(false) }
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

    /// Whether the thread runs and has not worked on one batch for seconds.
    pub fn is_good(&self) -> bool {
        let began = self.began.load(Ordering::Relaxed);
        let took = Duration::from_millis((self.now() + 1).saturating_sub(began));
        !self.has_ended.load(Ordering::Acquire) && (began == 0 || took < HANGS)
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
}
