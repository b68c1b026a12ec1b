//! Supervision of the parts of which a process has one: actors, tasks and threads. A part that ends without being asked either
//! restarts ([`restart`]) or ends the process ([`Part`], [`essential`]); both are counted.
//!
//! A binary calls [`start`] first and selects on [`failed`]. Without [`start`] nothing is reported, so tests of a single crate
//! may drop parts at any time.
//!
//! Debug builds can make a part panic on request: see [`fault!`]. Release builds contain none of it.

#[cfg(debug_assertions)]
pub mod fault;
mod part;
mod restart;
mod work;

pub use part::{Part, count_panic, drain, ended, essential, failed, start};
pub use restart::restart;
pub use work::Work;

/// Panics if this part was armed by [`fault::arm`]. Expands to nothing in release builds.
#[macro_export]
macro_rules! fault {
    ($part:expr) => {
        #[cfg(debug_assertions)]
        $crate::fault::hit($part);
    };
}

/// A release build compiles this only if [`fault!`] expands to nothing: a `const fn` cannot read what is armed.
#[cfg(not(debug_assertions))]
#[allow(dead_code, reason = "it is compiled and never called")]
const fn release_builds_have_no_faults() {
    fault!("any");
}

/// `future`, which in debug builds panics when `part` is armed.
#[cfg(debug_assertions)]
fn faulty<F: Future>(part: &'static str, future: F) -> impl Future<Output = F::Output> {
    fault::point(part, future)
}

#[cfg(not(debug_assertions))]
fn faulty<F: Future>(_: &'static str, future: F) -> impl Future<Output = F::Output> {
    future
}
