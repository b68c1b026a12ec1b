//! Fault injection for tests, in debug builds only: an armed part panics once.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    thread,
    time::Duration,
};

/// How long a part blocks its thread when it is armed to hang.
pub const HANG_TIME: Duration = Duration::from_secs(6);

/// The armed parts, and the tasks to wake when a part is armed.
struct State {
    armed: BTreeSet<String>,
    wakers: BTreeMap<&'static str, Waker>,
}

static STATE: Mutex<State> = Mutex::new(State { armed: BTreeSet::new(), wakers: BTreeMap::new() });

/// Whether any part is armed. Until then a fault point costs one load.
static IS_ARMED: AtomicBool = AtomicBool::new(false);

/// Makes `part` panic once, at its next fault point.
pub fn arm(part: &str) {
    let waker = {
        let mut state = state();
        state.armed.insert(part.to_owned());
        IS_ARMED.store(true, Ordering::Release);
        state.wakers.remove(part)
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Whether `part` is armed and has not panicked yet.
pub fn is_armed(part: &str) -> bool {
    state().armed.contains(part)
}

/// Disarms `part`. Returns whether it was armed.
pub fn take(part: &str) -> bool {
    IS_ARMED.load(Ordering::Acquire) && state().armed.remove(part)
}

/// Panics if `part` is armed. Blocks the thread for [`HANG_TIME`] if `{part} hangs` is armed.
#[track_caller]
pub fn hit(part: &str) {
    if !IS_ARMED.load(Ordering::Acquire) {
        return;
    }
    assert!(!take(part), "injected fault: {part}");
    if take(&format!("{part} hangs")) {
        thread::sleep(HANG_TIME);
    }
}

/// Runs `future`. Arming `part` wakes it and makes it panic.
pub async fn point<F: Future>(part: &'static str, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(move |cx| {
        poll(part, cx);
        future.as_mut().poll(cx)
    })
    .await
}

/// Panics when `part` is armed. For actors, which have no future to wrap.
pub async fn wait(part: &'static str) {
    point(part, std::future::pending()).await
}

fn poll(part: &'static str, cx: &Context<'_>) {
    // Registered first: a part that is armed in between is either found below or woken.
    state().wakers.insert(part, cx.waker().clone());
    hit(part);
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiting_task_panics_once_when_it_is_armed() {
        let task = tokio::spawn(wait("waiting"));
        tokio::task::yield_now().await;
        arm("waiting");
        assert!(task.await.expect_err("it panicked").is_panic());
        assert!(!take("waiting"));
    }
}
