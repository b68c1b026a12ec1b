//! Fault points, in debug builds only. A test sets a function that may panic at a fault point.

use std::sync::OnceLock;

static HOOK: OnceLock<fn(&str)> = OnceLock::new();

/// Calls `hook` at every fault point with its name: `shard`, `session`, `pipe` or `poll`. Only the first call
/// takes effect.
pub fn set_hook(hook: fn(&str)) {
    let _ = HOOK.set(hook);
}

/// Calls the hook, if one is set.
pub(crate) fn hit(part: &str) {
    if let Some(hook) = HOOK.get() {
        hook(part);
    }
}
