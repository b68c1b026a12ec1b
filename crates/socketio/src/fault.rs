//! Fault points, in debug builds only: an application under test may set a function that panics at the part it is given.

use std::sync::OnceLock;

static HOOK: OnceLock<fn(&str)> = OnceLock::new();

/// Calls `hook` at every fault point with the name of the part: `shard`, `session`, `pipe` or `poll`. Only the first call
/// counts.
pub fn set_hook(hook: fn(&str)) {
    let _ = HOOK.set(hook);
}

/// A fault point.
pub(crate) fn hit(part: &str) {
    if let Some(hook) = HOOK.get() {
        hook(part);
    }
}
