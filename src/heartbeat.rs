//! Checks that the threads of the process run. A task on each thread records the time once per second. A separate
//! thread checks all of them and keeps the result for `/livez` and `/readyz`. A thread that is blocked or spins does
//! not run its task. The roles and the HTTP server add threads; [`crate::admin`] reads the result.
//!
//! Time in which the whole process did not run (SIGSTOP, a suspended machine) does not count as a stall.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use actix_web::rt::{spawn, time::sleep};

use crate::{supervision, telemetry};

/// How often a thread records the time, and how often the times are checked.
const TICK: Duration = Duration::from_secs(1);

/// A thread that recorded no time for this long is stalled.
pub const STALL_THRESHOLD: Duration = Duration::from_secs(5);

/// The checking thread is late by this much only if the whole process did not run.
const WATCHER_DELAY: Duration = Duration::from_secs(3);

/// The threads of this process.
static THREADS: Threads = Threads::new();

/// The watched threads.
struct Threads {
    beats: Mutex<Vec<Arc<Beat>>>,
    /// When the checking thread last ran, in milliseconds of [`now`]. 0 before its first run.
    watched: AtomicU64,
    /// The stalled threads at that time.
    stalled: Mutex<Option<String>>,
}

/// The heartbeat of one thread.
struct Beat {
    name: String,
    /// When its task last ran, in milliseconds of [`now`].
    last: AtomicU64,
    /// Whether the runtime of the thread has ended or is ending.
    has_ended: AtomicBool,
}

/// Stops watching a thread when its task is dropped with its runtime.
struct Watched(Arc<Beat>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Relaxed);
    }
}

/// Watches the current thread under `name` until its actix arbiter ends.
pub fn watch(name: impl Into<String>) {
    let beat = Watched(THREADS.add(name.into(), now()));
    spawn(async move {
        loop {
            beat.0.last.store(now(), Relaxed);
            sleep(TICK).await;
        }
    });
}

/// Watches the threads of the chat.
pub fn watch_chat(chat: &chat::Chat) {
    for (name, arbiter) in chat.threads() {
        let name = *name;
        arbiter.spawn_fn(move || watch(name));
    }
}

/// Starts the thread that checks all others. It calls `alive` once per second while no thread is stalled.
///
/// # Errors
/// When the system provides no thread.
pub fn start(alive: impl Fn() + Send + 'static) -> io::Result<()> {
    let part = supervision::Part::new("heartbeat");
    let check = move || {
        let _alive = part;
        loop {
            supervision::fault!("heartbeat");
            if THREADS.check(now()) {
                alive();
            }
            telemetry::report_dropped_lines();
            thread::sleep(TICK);
        }
    };
    thread::Builder::new().name("heartbeat".to_owned()).spawn(check).map(drop)
}

/// The stalled threads, as text. `None` when no thread is stalled.
pub async fn not_ready_reason() -> Option<String> {
    // When the whole process resumes, the checking thread has not run yet.
    let since = Instant::now();
    while THREADS.is_watcher_late(now()) {
        if since.elapsed() >= 2 * TICK {
            return Some("the thread that watches the others does not run".to_owned());
        }
        sleep(TICK / 10).await;
    }
    THREADS.stalled.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Threads {
    const fn new() -> Self {
        Self { beats: Mutex::new(Vec::new()), watched: AtomicU64::new(0), stalled: Mutex::new(None) }
    }

    fn add(&self, name: String, now: u64) -> Arc<Beat> {
        let beat = Arc::new(Beat { name, last: AtomicU64::new(now), has_ended: AtomicBool::new(false) });
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).push(beat.clone());
        beat
    }

    /// Checks all threads and logs a change. Returns whether no thread is stalled.
    fn check(&self, now: u64) -> bool {
        let before = self.watched.swap(now, Relaxed);
        let was_stopped = before != 0 && since(before, now) > WATCHER_DELAY;
        let stalled = self.stalled_threads(now, was_stopped);
        let mut current = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_some() != stalled.is_some() {
            match &stalled {
                Some(not_ready_reason) => {
                    metrics::counter!("godzilla_thread_stalls_total").increment(1);
                    tracing::error!(not_ready_reason, "threads are stalled");
                }
                None => tracing::warn!("all threads run again"),
            }
        }
        *current = stalled;
        current.is_none()
    }

    /// The stalled threads, as text. `was_stopped` restarts the time of every thread.
    fn stalled_threads(&self, now: u64, was_stopped: bool) -> Option<String> {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.retain(|beat| !beat.has_ended.load(Relaxed));
        if was_stopped {
            beats.iter().for_each(|beat| beat.last.store(now, Relaxed));
        }
        let age = |beat: &Arc<Beat>| (since(beat.last.load(Relaxed), now), beat.name.clone());
        for (age, name) in beats.iter().map(age) {
            metrics::gauge!("godzilla_thread_heartbeat_age_seconds", "thread" => name).set(age.as_secs_f64());
        }
        let stalled = beats.iter().map(age).filter(|(age, _)| *age >= STALL_THRESHOLD);
        let stalled: Vec<_> =
            stalled.map(|(age, name)| format!("thread {name} has not run for {} s", age.as_secs())).collect();
        (!stalled.is_empty()).then(|| stalled.join("; "))
    }

    fn is_watcher_late(&self, now: u64) -> bool {
        let watched = self.watched.load(Relaxed);
        watched != 0 && since(watched, now) > WATCHER_DELAY
    }
}

/// Milliseconds since the first call, starting at 1. The clock is monotonic.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1
}

fn since(before: u64, now: u64) -> Duration {
    Duration::from_millis(now.saturating_sub(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000;

    #[test]
    fn a_stalled_thread_is_named_until_it_runs_again() {
        let threads = Threads::new();
        let (one, two) = (threads.add("one".to_owned(), 1), threads.add("two".to_owned(), 1));
        let runs = |beats: &[&Beat], seconds: std::ops::RangeInclusive<u64>| {
            for second in seconds {
                beats.iter().for_each(|beat| beat.last.store(second * SECOND, Relaxed));
                threads.check(second * SECOND);
            }
            threads.stalled.lock().unwrap().clone()
        };
        assert_eq!(runs(&[&one, &two], 1..=9), None);
        assert_eq!(runs(&[&one], 10..=13), None, "not yet");
        assert_eq!(runs(&[&one], 14..=15).as_deref(), Some("thread two has not run for 6 s"));
        assert_eq!(runs(&[&one, &two], 16..=16), None, "it runs again");
        drop(Watched(two));
        assert_eq!(runs(&[&one], 17..=40), None, "a thread that has ended");
    }

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count() {
        let threads = Threads::new();
        threads.add("one".to_owned(), SECOND);
        assert!(threads.check(SECOND));
        assert!(threads.is_watcher_late(100 * SECOND), "unknown before the checking thread ran");
        assert!(threads.check(100 * SECOND));
        assert!(!threads.is_watcher_late(100 * SECOND));
        assert!((101..105).all(|second| threads.check(second * SECOND)), "time to run again");
        assert!(!threads.check(105 * SECOND));
    }
}
