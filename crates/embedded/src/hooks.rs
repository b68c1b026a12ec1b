//! The hooks of a program into its stores: a report of a failed thread, and in debug builds fault points, at which a test can make a
//! thread panic.

use std::{sync::OnceLock, thread};

static FAILED: OnceLock<fn(&str)> = OnceLock::new();

/// Sets `hook`, which is called with the name of the thread (`chat-write`) when a writer ends before its store is closed, or when a
/// function that runs after a commit panics. The store then refuses every write, or has stored changes that were never published, so the
/// process must restart. Only the first call has an effect.
pub fn on_failure(hook: fn(thread: &str)) {
    let _ = FAILED.set(hook);
}

/// Reports that this thread has failed.
pub(crate) fn report_failure() {
    if let Some(hook) = FAILED.get() {
        hook(thread::current().name().unwrap_or("store"));
    }
}

/// Reports a failure when it is dropped.
pub(crate) struct ReportOnDrop;

impl Drop for ReportOnDrop {
    fn drop(&mut self) {
        report_failure();
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

/// A fault point of this thread, with a suffix of its name. Does nothing in release builds.
pub(crate) fn fault(_suffix: &str) {
    #[cfg(debug_assertions)]
    if let Some(hook) = FAULT.get() {
        hook(&format!("{}{_suffix}", thread::current().name().unwrap_or("store")));
    }
}
