//! The hooks of a program into its stores: a report of a failed thread, and in debug builds fault points, at which a test can make a
//! thread panic.

use std::{sync::OnceLock, thread};

static FAILED: OnceLock<fn(&str)> = OnceLock::new();

/// Sets `hook`, which is called with the name of the thread (`chat-write`) when a writer or a function that runs after a commit panics.
/// The store then returns [`Error::Closed`](crate::Error::Closed) for every write, or has stored changes that were never published, so
/// the process must restart. Only the first call has an effect.
pub fn on_failure(hook: fn(thread: &str)) {
    let _ = FAILED.set(hook);
}

/// Reports that this thread has failed.
pub(crate) fn report_failure() {
    if let Some(hook) = FAILED.get() {
        hook(thread::current().name().unwrap_or("store"));
    }
}

#[cfg(debug_assertions)]
static FAULT: OnceLock<fn(&str)> = OnceLock::new();

/// Sets `hook`, which is called with the name of the thread at every fault point and may panic. For tests.
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

/// A fault point of the writer thread between two batches, named `chat-write between`.
pub(crate) fn fault_between() {
    #[cfg(debug_assertions)]
    if let Some(hook) = FAULT.get() {
        hook(&format!("{} between", thread::current().name().unwrap_or("store")));
    }
}
