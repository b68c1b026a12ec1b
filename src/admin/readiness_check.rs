//! A readiness check that continues after its deadline. Drivers often report the cause of a failure later than the
//! deadline of a readiness request. The check then continues in the background, and later requests report its cause.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{task::AbortHandle, time::timeout};

use super::{Probe, not_ready_unless};

/// The time that a readiness request waits for a part.
const DEADLINE: Duration = Duration::from_secs(1);

/// The time after which a check without a result is abandoned and restarted.
const ABANDONED: Duration = Duration::from_secs(10);

/// A running check, shared by the requests that wait for it.
#[derive(Clone)]
struct Running {
    started: Instant,
    answer: Shared<BoxFuture<'static, Option<String>>>,
    task: AbortHandle,
}

/// The check of one part. Cheap to clone; clones share the running check.
#[derive(Clone)]
pub(super) struct ReadinessCheck {
    probe: Arc<Probe>,
    state: Arc<Mutex<State>>,
    deadline: Duration,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// The cause that the last late check reported.
    late: Option<String>,
}

impl ReadinessCheck {
    /// Creates a check that runs `probe`.
    pub(super) fn new(probe: Probe) -> Self {
        Self { probe: Arc::new(probe), state: Arc::default(), deadline: DEADLINE }
    }

    /// The problem of the part. `None` when it works. Returns within [`DEADLINE`].
    pub(super) async fn ask(&self) -> Option<String> {
        let Running { started, answer, .. } = self.run();
        let is_late = started.elapsed() >= self.deadline;
        let answer = timeout(self.deadline, answer).await;
        let mut state = self.state();
        let Ok(answer) = answer else { return state.late.clone().or_else(|| not_ready_unless(false)) };
        state.running.take_if(|running| running.started == started);
        // A part that answers late is too slow to be ready.
        state.late = if is_late { answer.clone().or_else(|| not_ready_unless(false)) } else { None };
        state.late.clone().or(answer)
    }

    /// The running check. Starts one if no check runs. An abandoned check is cancelled, so at most one runs.
    fn run(&self) -> Running {
        let mut state = self.state();
        if let Some(running) = &state.running {
            if running.started.elapsed() < ABANDONED {
                return running.clone();
            }
            running.task.abort();
        }
        let probe = self.probe.clone();
        // A panic counts as no answer. The panic hook has reported it.
        let check = AssertUnwindSafe(async move { probe().await }).catch_unwind();
        let check = tokio::spawn(async { check.await.unwrap_or_else(|_| not_ready_unless(false)) });
        let task = check.abort_handle();
        let answer = check.map(|ended| ended.unwrap_or_else(|_| not_ready_unless(false))).boxed().shared();
        let running = Running { started: Instant::now(), answer, task };
        state.running = Some(running.clone());
        running
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    /// The first requests report no cause. Later requests report the cause of the late check, until a check is in time
    /// again.
    #[tokio::test]
    async fn the_cause_of_a_late_check_is_reported() {
        let slow = Arc::new(Mutex::new(Some("has no primary")));
        let probe = {
            let slow = slow.clone();
            move || -> BoxFuture<'static, Option<String>> {
                let cause = *slow.lock().unwrap();
                Box::pin(async move {
                    if let Some(cause) = cause {
                        tokio::time::sleep(Duration::from_millis(250)).await;
                        return Some(cause.to_owned());
                    }
                    None
                })
            }
        };
        let mut check = ReadinessCheck::new(Box::new(probe));
        check.deadline = Duration::from_millis(100);
        assert_eq!(check.ask().await.as_deref(), Some("does not answer"));
        let mut answers = Vec::new();
        while answers.last().is_none_or(|last| last != "has no primary") {
            answers.push(check.ask().await.expect("it is not ready"));
            assert!(answers.len() < 10, "{answers:?}");
        }
        assert_eq!(check.ask().await.as_deref(), Some("has no primary"), "while the next check runs");
        *slow.lock().unwrap() = None;
        for _ in 0..10 {
            if check.ask().await.is_none() {
                return;
            }
        }
        panic!("a part that works again is ready again");
    }

    #[tokio::test]
    async fn requests_share_a_check() {
        let (count, go) = (Arc::new(Mutex::new(0)), Arc::new(Notify::new()));
        let probe = {
            let (count, go) = (count.clone(), go.clone());
            move || -> BoxFuture<'static, Option<String>> {
                *count.lock().unwrap() += 1;
                let go = go.clone();
                Box::pin(async move {
                    go.notified().await;
                    None
                })
            }
        };
        let check = ReadinessCheck::new(Box::new(probe));
        let release = async { go.notify_one() };
        let (one, other, ()) = tokio::join!(check.ask(), check.ask(), release);
        assert_eq!((one, other, *count.lock().unwrap()), (None, None, 1));
    }
}
