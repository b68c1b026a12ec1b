//! Supervision of the essential parts of a process: actors, tasks and threads. A part that ends unexpectedly
//! is either restarted ([`restart()`]) or ends the process ([`Part`], [`essential`]). Both are counted.
//!
//! A binary calls [`start`] first and selects on [`failed`]. Without [`start`] nothing is reported, so tests
//! of a single crate may drop parts at any time.
//!
//! Debug builds can make a part panic on request: see [`fault!`]. Release builds contain no fault points.

mod busy;
#[cfg(debug_assertions)]
pub mod fault;
mod part;
mod restart;

pub use busy::BusyTimer;
pub use part::{Part, count_panic, drain, ended, essential, failed, start};
pub use restart::restart;

/// Panics if [`fault::arm`] has armed this part. Expands to nothing in release builds.
#[macro_export]
macro_rules! fault {
    ($part:expr) => {
        #[cfg(debug_assertions)]
        $crate::fault::hit($part);
    };
}

/// A release build compiles this only if [`fault!`] expands to nothing: a `const fn` cannot read the armed
/// parts.
#[cfg(not(debug_assertions))]
#[allow(dead_code, reason = "it is compiled and never called")]
const fn release_builds_have_no_faults() {
    fault!("any");
}

/// Wraps `future`. In debug builds it panics when `part` is armed.
#[cfg(debug_assertions)]
fn with_fault_point<F: Future>(part: &'static str, future: F) -> impl Future<Output = F::Output> {
    fault::point(part, future)
}

#[cfg(not(debug_assertions))]
fn with_fault_point<F: Future>(_: &'static str, future: F) -> impl Future<Output = F::Output> {
    future
}
