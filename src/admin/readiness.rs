//! Readiness of the process: the checks of all parts of all roles, and what `/readyz` reports of them.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use actix_web::rt::time::sleep;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::time::timeout;

use crate::{heartbeat, supervision, systemd};

/// Checks one part. Resolves with the detail of its problem, as text that follows the name of the part, or with `None`.
pub type Probe = Box<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// The result of a probe that only detects whether its part works.
pub fn not_ready_unless(works: bool) -> Option<String> {
    (!works).then(|| "does not answer".to_owned())
}

/// How long a request waits for a part.
const DEADLINE: Duration = Duration::from_secs(1);

/// Interval of the checks for changes that are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

const STARTING: u8 = 0;
const OPEN: u8 = 1;
const DRAINING: u8 = 2;

/// Readiness of the process for requests: ready after [`Readiness::open`], while all checks succeed.
pub struct Readiness {
    phase: AtomicU8,
    checks: Mutex<Vec<Check>>,
}

#[derive(Clone)]
struct Check {
    /// The role, in a process that names its roles.
    role: Option<&'static str>,
    part: &'static str,
    probe: Arc<Probe>,
    /// Whether the process works without the part, in a degraded way.
    is_degrading: bool,
}

/// A part that does not work.
struct Problem {
    role: Option<&'static str>,
    part: &'static str,
    detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(role) = self.role {
            write!(f, "{role}: ")?;
        }
        write!(f, "{} {}", self.part, self.detail)
    }
}

/// The readiness at one time.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Why the process is not ready. `None` when it is.
    pub problem: Option<String>,
    /// Why a ready process is degraded. `None` when it is not.
    pub degradation: Option<String>,
}

impl Check {
    async fn problem(&self) -> Option<Problem> {
        let probe = AssertUnwindSafe(async { (self.probe)().await }).catch_unwind();
        // A panic counts as no answer. The panic hook has reported it.
        let detail = timeout(DEADLINE, probe).await.ok().and_then(Result::ok);
        let detail = detail.unwrap_or_else(|| not_ready_unless(false))?;
        Some(Problem { role: self.role, part: self.part, detail })
    }
}

impl Readiness {
    /// A process that starts and has no parts.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { phase: AtomicU8::new(STARTING), checks: Mutex::default() })
    }

    /// Adds the check of a part. A part without which the process works, in a degraded way, `is_degrading`.
    pub fn add(&self, role: Option<&'static str>, part: &'static str, probe: Probe, is_degrading: bool) {
        self.checks().push(Check { role, part, probe: Arc::new(probe), is_degrading });
    }

    /// Marks the start as complete.
    pub fn open(&self) {
        self.phase.store(OPEN, Ordering::Relaxed);
        systemd::ready();
    }

    /// Marks the process as not ready, because it accepts no new requests.
    pub fn drain(&self) {
        self.phase.store(DRAINING, Ordering::Relaxed);
        systemd::stopping();
    }

    fn is_draining(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == DRAINING
    }

    /// Checks all parts at the same time. While the process drains no part is checked.
    pub async fn report(&self) -> Report {
        if self.is_draining() {
            return Report { problem: Some("draining".to_owned()), degradation: None };
        }
        let (degrading, needed): (Vec<_>, Vec<_>) =
            self.checks().clone().into_iter().partition(|check| check.is_degrading);
        let (needed, degradation) = tokio::join!(problems(&needed), problems(&degrading));
        let ended = supervision::ended().into_iter().map(|part| format!("{part} has ended"));
        let mut broken: Vec<String> = needed.into_iter().chain(heartbeat::problem()).chain(ended).collect();
        if broken.is_empty() && self.phase.load(Ordering::Relaxed) == STARTING {
            broken.push("starting".to_owned());
        }
        metrics::gauge!("godzilla_degraded").set(if degradation.is_some() { 1.0 } else { 0.0 });
        Report { problem: (!broken.is_empty()).then(|| broken.join("; ")), degradation }
    }

    fn checks(&self) -> MutexGuard<'_, Vec<Check>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The problems of these parts, as text. `None` when all work.
async fn problems(checks: &[Check]) -> Option<String> {
    let problems = join_all(checks.iter().map(Check::problem)).await;
    let problems: Vec<String> = problems.iter().flatten().map(Problem::to_string).collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// Logs the result of `/readyz` when it has changed, until the process drains.
pub(super) async fn log_changes(readiness: Arc<Readiness>) {
    let mut last = Report::default();
    loop {
        sleep(LOG_INTERVAL).await;
        let report = readiness.report().await;
        if readiness.is_draining() {
            return;
        }
        if last != report {
            match &report {
                Report { problem: Some(problem), .. } => tracing::warn!(problem, "not ready"),
                Report { degradation: Some(problem), .. } => tracing::warn!(problem, "ready, degraded"),
                _ => tracing::info!("ready"),
            }
        }
        last = report;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(problem: Option<&'static str>) -> Probe {
        Box::new(move || Box::pin(std::future::ready(problem.map(str::to_owned))))
    }

    #[tokio::test]
    async fn a_process_is_ready_after_its_start_until_it_drains() {
        let readiness = Readiness::new();
        readiness.add(None, "users", probe(None), false);
        assert_eq!(readiness.report().await.problem.as_deref(), Some("starting"));
        readiness.open();
        assert_eq!(readiness.report().await, Report::default());
        readiness.drain();
        assert_eq!(readiness.report().await.problem.as_deref(), Some("draining"));
    }

    #[tokio::test]
    async fn a_part_that_fails_hangs_or_panics_is_named_with_its_role() {
        let readiness = Readiness::new();
        readiness.add(Some("chat"), "users", probe(Some("has no rest")), false);
        readiness.add(None, "sessions", probe(None), false);
        readiness.add(None, "Redis", Box::new(|| panic!("on purpose")), false);
        readiness.add(Some("gateway"), "chat", Box::new(|| Box::pin(std::future::pending())), false);
        readiness.add(None, "log", probe(Some("is slow")), true);
        readiness.open();
        let Report { problem, degradation } = readiness.report().await;
        let expected = "chat: users has no rest; Redis does not answer; gateway: chat does not answer";
        assert_eq!(problem.as_deref(), Some(expected));
        assert_eq!(degradation.as_deref(), Some("log is slow"), "ready without it");
    }
}
