//! Checks that the threads of the process run. A task on each thread records the time once per second, and a separate thread compares the
//! times for `/livez` and `/readyz`. A thread that is blocked or spins does not run its task. The roles and the HTTP server add threads;
//! [`crate::admin`] reads the result.
//!
//! Time in which the whole process did not run (SIGSTOP, a suspended machine) does not count: it stops the clock of this module, too.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use actix_web::rt::{spawn, time::sleep};

use crate::{error::Error, supervision};

/// How often a thread records the time.
const TICK: Duration = Duration::from_secs(1);

/// A thread that recorded no time for this many ticks is stalled.
const STALLED: u64 = 5;

/// The heartbeats of the watched threads.
static BEATS: Mutex<Vec<Arc<Beat>>> = Mutex::new(Vec::new());

/// The number of ticks of the checking thread, the clock of this module.
static NOW: AtomicU64 = AtomicU64::new(0);

/// The heartbeat of one thread, which its task holds.
struct Beat {
    name: String,
    /// When its task last ran.
    last: AtomicU64,
}

/// Watches the current thread under `name` until its actix arbiter ends.
pub fn watch(name: impl Into<String>) {
    let beat = Arc::new(Beat { name: name.into(), last: AtomicU64::new(NOW.load(Relaxed)) });
    beats().push(beat.clone());
    spawn(async move {
        loop {
            beat.last.store(NOW.load(Relaxed), Relaxed);
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
pub fn start(alive: impl Fn() + Send + 'static) -> Result<(), Error> {
    let part = supervision::Part::new("heartbeat");
    let check = move || {
        let _alive = part;
        let mut was_stalled = false;
        loop {
            supervision::fault!("heartbeat");
            thread::sleep(TICK);
            NOW.fetch_add(1, Relaxed);
            // A thread that has ended has dropped its task.
            beats().retain(|beat| Arc::strong_count(beat) > 1);
            let problem = problem();
            match (&problem, was_stalled) {
                (Some(problem), false) => {
                    metrics::counter!("godzilla_thread_stalls_total").increment(1);
                    tracing::error!(problem, "threads are stalled");
                }
                (None, true) => tracing::warn!("all threads run again"),
                _ => {}
            }
            was_stalled = problem.is_some();
            if !was_stalled {
                alive();
            }
        }
    };
    let started = thread::Builder::new().name("heartbeat".to_owned()).spawn(check);
    started.map(drop).map_err(|error| Error::part("heartbeat", error))
}

/// The stalled threads, as text. `None` when no thread is stalled.
pub fn problem() -> Option<String> {
    let now = NOW.load(Relaxed);
    let age = |beat: &Beat| now.saturating_sub(beat.last.load(Relaxed));
    let beats = beats();
    let stalled = beats.iter().filter(|beat| age(beat) >= STALLED);
    let stalled: Vec<_> =
        stalled.map(|beat| format!("thread {} has not run for {} s", beat.name, age(beat))).collect();
    (!stalled.is_empty()).then(|| stalled.join("; "))
}

fn beats() -> MutexGuard<'static, Vec<Arc<Beat>>> {
    BEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use actix_web::rt::System;

    use super::*;

    #[test]
    fn a_stalled_thread_is_named_until_it_runs_again() {
        System::new().block_on(async {
            watch("one");
            sleep(TICK / 10).await;
            assert_eq!(problem(), None);
            NOW.fetch_add(STALLED, Relaxed);
            assert_eq!(problem().as_deref(), Some("thread one has not run for 5 s"));
            sleep(2 * TICK).await;
            assert_eq!(problem(), None);
        });
    }
}
