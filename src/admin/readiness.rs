//! Readiness of the process: the checks of all parts of all roles, and what `/readyz` reports of them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, SystemTime},
};

use actix_web::rt::time::sleep;
use futures_util::future::{join, join_all};

use super::{Probe, readiness_check::ReadinessCheck};
use crate::{descriptors, entropy, limits, supervision, systemd};

/// Readiness of the process for requests: ready after [`Readiness::open`], while all checks succeed.
pub struct Readiness {
    phase: AtomicU8,
    /// Checks of parts without which the process is not ready.
    probes: Mutex<Vec<(Name, ReadinessCheck)>>,
    /// Checks of parts without which the process works in a degraded way.
    degrading: Mutex<Vec<(Name, ReadinessCheck)>>,
    /// When each current problem was first detected, by check.
    since: Mutex<HashMap<String, SystemTime>>,
}

/// The name of a part. In a process that names its roles it has the role.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    role: Option<&'static str>,
    part: &'static str,
}

/// The readiness at one time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Why the process is not ready. `None` when it is.
    pub not_ready_reason: Option<String>,
    /// Why a ready process is degraded. `None` when it is not.
    pub degradation: Option<String>,
    /// The parts of each role, each with `ok` or its problem. Empty in a process that names no roles.
    pub roles: Roles,
}

/// The parts of each role, by role and part.
pub type Roles = BTreeMap<&'static str, BTreeMap<&'static str, String>>;

/// State of a part without a problem.
const OK: &str = "ok";

const STARTING: u8 = 0;
const OPEN: u8 = 1;
const DRAINING: u8 = 2;

/// Interval of the checks for changes that are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

impl Readiness {
    /// A process that starts and has no parts.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(STARTING),
            probes: Mutex::default(),
            degrading: Mutex::default(),
            since: Mutex::default(),
        })
    }

    /// Adds the check of a part.
    pub fn add(&self, part: impl Into<Name>, probe: Probe) {
        lock(&self.probes).push((part.into(), ReadinessCheck::new(probe)));
    }

    /// Adds the check of a part whose failure makes the process degraded, not unready.
    pub fn add_degrading(&self, part: impl Into<Name>, probe: Probe) {
        lock(&self.degrading).push((part.into(), ReadinessCheck::new(probe)));
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

    /// Checks all parts. While the process drains no part is checked.
    pub async fn report(&self) -> Report {
        let phase = self.phase.load(Ordering::Relaxed);
        if phase == DRAINING {
            return Report { not_ready_reason: Some("draining".to_owned()), ..Report::default() };
        }
        let (probes, degrading) = (lock(&self.probes).clone(), lock(&self.degrading).clone());
        // At the same time, so that a response takes no longer than the deadline of one check.
        let (checked, degraded) = join(self.ask(&probes, ""), self.ask(&degrading, "degraded ")).await;
        let mut broken: Vec<String> = checked.iter().filter_map(Checked::text).collect();
        broken.extend(of_process());
        let not_ready_reason = match broken.is_empty() {
            false => Some(broken.join("; ")),
            true => (phase == STARTING).then(|| "starting".to_owned()),
        };
        let problems: Vec<String> = degraded.iter().filter_map(Checked::text).collect();
        let degradation = (!problems.is_empty()).then(|| problems.join("; "));
        metrics::gauge!("godzilla_degraded").set(if degradation.is_some() { 1.0 } else { 0.0 });
        let roles = roles(checked.into_iter().chain(degraded));
        Report { not_ready_reason, degradation, roles }
    }

    /// The results of these checks, each problem with the time when it was first detected. One part can have several checks,
    /// also of different `kind`s, so the time belongs to the check.
    async fn ask(&self, probes: &[(Name, ReadinessCheck)], kind: &str) -> Vec<Checked> {
        let answers = probes.iter().map(async |(part, check)| (*part, check.ask().await));
        let answers = join_all(answers).await;
        let mut since = lock(&self.since);
        let with_time = |(number, (name, not_ready_reason)): (usize, (Name, Option<String>))| {
            let check = format!("{kind}{number} {name}");
            let Some(not_ready_reason) = not_ready_reason else {
                since.remove(&check);
                return Checked { name, problem: None };
            };
            let at = *since.entry(check).or_insert_with(SystemTime::now);
            let at = humantime::format_rfc3339_seconds(at);
            Checked { name, problem: Some(format!("{not_ready_reason} (since {at})")) }
        };
        answers.into_iter().enumerate().map(with_time).collect()
    }
}

/// Why no role of the process is ready.
fn of_process() -> impl Iterator<Item = String> {
    let ended = supervision::ended().into_iter().map(|part| format!("{part} has ended"));
    let missing = [descriptors::not_ready_reason(), entropy::not_ready_reason(), limits::not_ready_reason()];
    missing.into_iter().flatten().chain(ended)
}

/// The result of a check.
struct Checked {
    name: Name,
    problem: Option<String>,
}

impl Checked {
    /// The name and the problem. `None` without a problem.
    fn text(&self) -> Option<String> {
        self.problem.as_ref().map(|problem| format!("{} {problem}", self.name))
    }
}

/// The parts of each role. Of several problems of a part it has the first.
fn roles(checked: impl Iterator<Item = Checked>) -> Roles {
    let mut roles = Roles::new();
    for Checked { name, problem } in checked {
        let Some(role) = name.role else { continue };
        let state = roles.entry(role).or_default().entry(name.part).or_insert_with(|| OK.to_owned());
        if let Some(problem) = problem.filter(|_| state == OK) {
            *state = problem;
        }
    }
    roles
}

impl From<&'static str> for Name {
    fn from(part: &'static str) -> Self {
        Self { role: None, part }
    }
}

impl From<(Option<&'static str>, &'static str)> for Name {
    fn from((role, part): (Option<&'static str>, &'static str)) -> Self {
        Self { role, part }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Some(role) => write!(f, "{role}: {}", self.part),
            None => f.write_str(self.part),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs the result of `/readyz` when it has changed, until the process drains.
pub(super) async fn log_changes(readiness: Arc<Readiness>) {
    let mut last = Some((None, None));
    loop {
        sleep(LOG_INTERVAL).await;
        if readiness.phase.load(Ordering::Relaxed) == DRAINING {
            return;
        }
        let report = readiness.report().await;
        let state = (report.not_ready_reason, report.degradation);
        if last.as_ref() != Some(&state) {
            match &state {
                (Some(not_ready_reason), _) => tracing::warn!(not_ready_reason, "not ready"),
                (None, Some(degradation)) => tracing::warn!(degradation, "ready, degraded"),
                (None, None) => tracing::info!("ready"),
            }
        }
        last = Some(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readiness(probes: Vec<(&'static str, Probe)>) -> Arc<Readiness> {
        let readiness = Readiness::new();
        probes.into_iter().for_each(|(part, probe)| readiness.add(part, probe));
        readiness
    }

    fn probe(not_ready_reason: Option<&'static str>) -> Probe {
        Box::new(move || Box::pin(std::future::ready(not_ready_reason.map(str::to_owned))))
    }

    fn hanging() -> Probe {
        Box::new(|| Box::pin(std::future::pending()))
    }

    #[tokio::test]
    async fn a_process_is_ready_after_its_start_until_it_drains() {
        let readiness = readiness(vec![("users", probe(None)), ("chat", probe(None))]);
        assert_eq!(readiness.report().await.not_ready_reason.as_deref(), Some("starting"));
        readiness.open();
        assert_eq!(readiness.report().await.not_ready_reason, None);
        readiness.drain();
        assert_eq!(readiness.report().await.not_ready_reason.as_deref(), Some("draining"));
    }

    fn panicking() -> Probe {
        Box::new(|| Box::pin(async { panic!("on purpose") }))
    }

    #[tokio::test]
    async fn a_part_that_fails_hangs_or_panics_is_named() {
        let parts = vec![
            ("users", probe(Some("has no rest"))),
            ("sessions", probe(None)),
            ("Redis", panicking()),
            ("MongoDB", Box::new(|| panic!("on purpose"))),
            ("chat", hanging()),
        ];
        let readiness = readiness(parts);
        let not_ready_reason = readiness.report().await.not_ready_reason.unwrap_or_default();
        let parts: Vec<&str> =
            not_ready_reason.split("; ").map(|part| part.split(" (since 2").next().unwrap()).collect();
        let expected =
            ["users has no rest", "Redis does not answer", "MongoDB does not answer", "chat does not answer"];
        assert_eq!(parts, expected, "while it starts");
        readiness.open();
        assert_eq!(
            readiness.report().await.not_ready_reason,
            Some(not_ready_reason),
            "the time of the first check is kept"
        );
    }

    /// A part can have several checks. One that succeeds does not reset the time of another.
    #[tokio::test]
    async fn each_check_of_a_part_has_its_own_time() {
        let readiness = readiness(vec![("Redis", probe(None))]);
        readiness.add_degrading("Redis", probe(Some("refuses XADD")));
        readiness.add_degrading("Redis", probe(None));
        readiness.open();
        let first = readiness.report().await.degradation;
        let check = lock(&readiness.since).keys().next().cloned().unwrap();
        lock(&readiness.since).insert(check, SystemTime::UNIX_EPOCH);
        assert_eq!(readiness.report().await.not_ready_reason, None);
        let second = readiness.report().await.degradation.unwrap_or_default();
        assert!(second.contains("(since 1970-01-01T00:00:00Z)"), "{first:?} {second}");
    }

    #[tokio::test]
    async fn a_failed_degrading_check_keeps_the_process_ready() {
        let readiness = readiness(vec![("users", probe(None))]);
        readiness.add_degrading("log", probe(Some("is slow")));
        readiness.open();
        assert_eq!(readiness.report().await.not_ready_reason, None);
        let degradation = readiness.report().await.degradation.unwrap_or_default();
        assert!(degradation.starts_with("log is slow (since 2"), "{degradation}");
    }

    #[tokio::test]
    async fn a_process_with_several_roles_names_the_parts_of_each() {
        let readiness = Readiness::new();
        readiness.add((Some("gateway"), "Redis"), probe(Some("refuses connections")));
        readiness.add((Some("chat"), "Redis"), probe(None));
        readiness.add((Some("chat"), "MongoDB"), probe(None));
        readiness.add_degrading((Some("chat"), "Redis"), probe(Some("refuses XADD")));
        readiness.open();
        let report = readiness.report().await;
        let reason = report.not_ready_reason.unwrap_or_default();
        assert!(reason.starts_with("gateway: Redis refuses connections (since 2"), "{reason}");
        let degradation = report.degradation.unwrap_or_default();
        assert!(degradation.starts_with("chat: Redis refuses XADD (since 2"), "{degradation}");
        assert!(
            report.roles["gateway"]["Redis"].starts_with("refuses connections (since"),
            "{:?}",
            report.roles
        );
        assert_eq!(report.roles["chat"]["MongoDB"], "ok");
        assert!(report.roles["chat"]["Redis"].starts_with("refuses XADD (since"), "{:?}", report.roles);
    }
}
