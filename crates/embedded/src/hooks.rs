//! What a store reports to its program: that a thread has failed. In debug builds also where a test can make one fail.

use std::{sync::OnceLock, thread};

static FAILED: OnceLock<fn(&str)> = OnceLock::new();

/// Calls `hook` with the name of the thread (`chat-write`) when a writer panics, or when what follows a commit does. Its store
/// then answers every write with [`Error::Closed`](crate::Error::Closed), or has stored what was never passed on: only a
/// restart of the process helps. Only the first call counts.
pub fn on_failure(hook: fn(thread: &str)) {
    let _ = FAILED.set(hook);
}

/// This thread has failed.
pub(crate) fn failed() {
    if let Some(hook) = FAILED.get() {
        hook(thread::current().name().unwrap_or("store"));
    }
}

#[cfg(debug_assertions)]
static FAULT: OnceLock<fn(&str)> = OnceLock::new();

/// For tests: calls `hook`, which may panic, with the name of the thread at every fault point.
#[cfg(debug_assertions)]
#[doc(hidden)]
pub fn set_fault_hook(hook: fn(thread: &str)) {
    let _ = FAULT.set(hook);
}

/// A fault point of this thread. Does nothing in release builds.
pub(crate) fn fault() {
    #[cfg(debug_assertions)]
    if let Some(hook) = FAULT.get() {
        hook(thread::current().name().unwrap_or("store"));
    }
}

/// A fault point of the writer's thread between two batches, named `chat-write between`.
pub(crate) fn fault_between() {
    #[cfg(debug_assertions)]
    if let Some(hook) = FAULT.get() {
        hook(&format!("{} between", thread::current().name().unwrap_or("store")));
    }
}
