//! What the services report of themselves in their responses to probes: the role, the name of a node, the ids of the stores in use, and why
//! the service is not ready. A node that has lost MongoDB or Redis only for itself still responds. Another node, another role or another program can
//! respond at the address of a service. Recorded by [`super::health`].

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use cluster::{Backend, Nodes};
use proto::{RoleReport, role_report::ACCOUNTS};
use tokio::sync::watch;

use super::{
    mismatches::{self, Effect, Limits, Own},
    roles::Role,
};

/// The minimum time between two warnings about the services at one address.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// What the Redis of a gateway contains about its deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisKeys {
    /// The id of this part of Redis.
    pub id: String,
    /// The id and the name of the database of MongoDB whose roles hold the claim of the keys. `None` while no role holds it.
    pub holder: Option<(String, String)>,
}

/// The last reports, by service address.
#[derive(Debug, Default)]
pub(super) struct RoleReports {
    reports: Mutex<HashMap<Backend, RoleReport>>,
    /// The times of the last warnings.
    warned: Mutex<HashMap<Backend, Instant>>,
    /// The keys in the Redis of this gateway. Services are not compared with them before they are set and read.
    redis_keys: OnceLock<watch::Receiver<Option<RedisKeys>>>,
    /// The limits of this gateway.
    limits: OnceLock<Limits>,
}

impl RoleReports {
    /// Compares the Redis of each service with this one. Further calls have no effect.
    pub(super) fn compare_redis(&self, keys: watch::Receiver<Option<RedisKeys>>) {
        _ = self.redis_keys.set(keys);
    }

    /// Compares the limits of each service with these limits of this gateway. Further calls have no effect.
    pub(super) fn compare_limits(&self, limits: Limits) {
        _ = self.limits.set(limits);
    }

    /// Records the latest report from this address. A name that no node can have is ignored. `None` is a service that rejects the
    /// signatures of this gateway.
    pub(super) fn record(&self, backend: &Backend, report: Option<RoleReport>) {
        let mut reports = lock(&self.reports);
        match report {
            Some(mut report) => {
                report.node = report.node.filter(|name| Nodes::is_name(name));
                reports.insert(backend.clone(), report);
            }
            None => _ = reports.remove(backend),
        }
    }

    /// Removes the reports of services that are not listed.
    pub(super) fn retain(&self, listed: &[Backend]) {
        lock(&self.reports).retain(|backend, _| listed.contains(backend));
        lock(&self.warned).retain(|backend, _| listed.contains(backend));
    }

    /// Why the service at this address is not ready, as it reports. `None` when it is, or does not report it.
    pub(super) fn not_ready_reason(&self, backend: &Backend) -> Option<String> {
        let reason = lock(&self.reports).get(backend)?.not_ready.clone()?;
        Some(format!("is not ready: {reason}"))
    }

    /// Whether the node at this address reports that it is not ready.
    pub(super) fn is_not_ready(&self, backend: &Backend) -> bool {
        lock(&self.reports).get(backend).is_some_and(|report| report.not_ready.is_some())
    }

    /// Why the service at the address of the node with this name is not this node: another role, another program or another node.
    pub(super) fn mismatch(&self, name: &str, backend: &Backend) -> Option<String> {
        self.role_mismatch(Role::Chat, backend).or_else(|| {
            let other = self.other(name, backend)?;
            Some(format!(
                "the address of {name} is answered by {other}: --advertise must reach this node alone"
            ))
        })
    }

    /// Why the service at this address is not of this role in the deployment of this gateway. `None` when it is, and before its first
    /// report.
    pub(super) fn role_mismatch(&self, expected: Role, backend: &Backend) -> Option<String> {
        let reports = lock(&self.reports);
        let report = reports.get(backend)?;
        let role = expected.mismatch(report.role.as_deref());
        role.or_else(|| self.compared(&reports, backend, |effect| effect == Effect::Excluded))
    }

    /// Why the service at this address, which gets requests, is of another deployment.
    fn foreign(&self, backend: &Backend) -> Option<String> {
        self.compared(&lock(&self.reports), backend, |effect| effect == Effect::Foreign)
    }

    /// Why the values of the service at this address, which gets requests, do not fit those of other services or of this gateway.
    pub(super) fn value_mismatch(&self, backend: &Backend) -> Option<String> {
        self.compared(&lock(&self.reports), backend, |effect| effect != Effect::Excluded)
    }

    fn compared(
        &self,
        reports: &HashMap<Backend, RoleReport>,
        backend: &Backend,
        counts: impl Fn(Effect) -> bool,
    ) -> Option<String> {
        let others = reports.iter().filter(|(other, _)| *other != backend);
        let others = others.map(|(address, other)| {
            let name = if other.role.as_deref() == Some(ACCOUNTS) { ACCOUNTS } else { "the node" };
            (format!("{name} at {address}"), other)
        });
        let redis_id = self.redis_keys().map(|keys| keys.id);
        let own = Own { redis_id, limits: self.limits.get().copied() };
        mismatches::mismatch(reports.get(backend)?, others, &own, counts)
    }

    /// Warns of a service that is not of role `expected`, of another node at the address of a node, and of nodes with one address, once
    /// within [`WARN_INTERVAL`].
    pub(super) fn warn(&self, expected: Role, nodes: &Nodes, backend: &Backend) {
        let names: Vec<&str> =
            nodes.iter().filter(|(_, node)| node.backend == *backend).map(|(name, _)| name).collect();
        let cause = match names.as_slice() {
            [name] => self.mismatch(name, backend),
            [name, ..] => shared(nodes, name, backend),
            [] => None,
        };
        let cause = self.role_mismatch(expected, backend).or(cause);
        let Some(cause) = cause.or_else(|| self.foreign(backend)) else { return };
        let mut warned = lock(&self.warned);
        if warned.get(backend).is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
            warned.insert(backend.clone(), Instant::now());
            drop(warned);
            tracing::warn!(%backend, "the service at the address of {expected} is not one of this deployment: {cause}");
        }
    }

    /// The database of MongoDB for which another deployment uses the Redis of this gateway. `None` when the roles of this deployment do, and
    /// while the id of the database of accounts is not reported.
    pub(super) fn other_deployment(&self) -> Option<String> {
        let (holder, name) = self.redis_keys()?.holder?;
        let reports = lock(&self.reports);
        let mut own = reports.values().filter(|report| report.role.as_deref() == Some(ACCOUNTS));
        let own = own.find_map(|report| report.database_id.clone())?;
        (own != holder).then(|| format!("{name} (id {holder}), and accounts uses another one (id {own})"))
    }

    fn redis_keys(&self) -> Option<RedisKeys> {
        self.redis_keys.get().and_then(|keys| keys.borrow().clone())
    }

    fn other(&self, name: &str, backend: &Backend) -> Option<String> {
        lock(&self.reports).get(backend)?.node.clone().filter(|other| other != name)
    }
}

/// The problem of a node whose address other nodes of the table have, too.
pub(super) fn shared(nodes: &Nodes, name: &str, backend: &Backend) -> Option<String> {
    let has_other = nodes.iter().any(|(other, node)| other != name && node.backend == *backend);
    if !has_other {
        return None;
    }
    let names: Vec<&str> =
        nodes.iter().filter(|(_, node)| node.backend == *backend).map(|(name, _)| name).collect();
    let (last, others) = names.split_last()?;
    let names = format!("{} and {last}", others.join(", "));
    Some(format!("{names} have the same address: --advertise must reach each node alone"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proto::role_report::CHAT;

    use super::*;

    fn backend(port: u16) -> Backend {
        format!("http://127.0.0.1:{port}").parse().unwrap()
    }

    fn report(role: &str, redis: Option<&str>, database: Option<&str>) -> Option<RoleReport> {
        let node = (role == CHAT).then_some("n");
        Some(RoleReport::new(role, node).with_stores(redis.map(str::to_owned), database.map(str::to_owned)))
    }

    #[test]
    fn a_service_with_another_redis_is_not_of_this_deployment() {
        let reports = RoleReports::default();
        let (keys, receiver) = watch::channel(None);
        let (accounts, node) = (backend(1), backend(2));
        reports.record(&accounts, report(ACCOUNTS, Some("b"), None));
        reports.record(&node, report(CHAT, None, None));
        assert_eq!(reports.role_mismatch(Role::Accounts, &accounts), None, "nothing to compare with");
        reports.compare_redis(receiver);
        assert_eq!(reports.role_mismatch(Role::Accounts, &accounts), None, "the id is not read yet");
        keys.send_replace(Some(RedisKeys { id: "a".to_owned(), holder: None }));
        let mismatch = reports.role_mismatch(Role::Accounts, &accounts).unwrap();
        assert!(mismatch.contains("--redis-url") && mismatch.contains("--deployment"), "{mismatch}");
        assert_eq!(reports.mismatch("n", &node), None, "a node of the release before");
        reports.record(&node, report(CHAT, Some("b"), None));
        assert!(reports.mismatch("n", &node).is_some());
        for backend in [&accounts, &node] {
            let role = if *backend == accounts { ACCOUNTS } else { CHAT };
            reports.record(backend, report(role, Some("a"), None));
        }
        assert_eq!(
            (reports.role_mismatch(Role::Accounts, &accounts), reports.mismatch("n", &node)),
            (None, None)
        );
    }

    #[test]
    fn databases_are_compared_with_accounts_and_without_it_among_nodes() {
        let reports = RoleReports::default();
        let (accounts, one, two) = (backend(1), backend(2), backend(3));
        reports.record(&accounts, report(ACCOUNTS, None, None));
        reports.record(&one, report(CHAT, None, Some("a")));
        reports.record(&two, report(CHAT, None, None));
        let mismatches = || [&accounts, &one, &two].map(|service| reports.value_mismatch(service).is_some());
        assert_eq!(mismatches(), [false; 3], "two services are of the release before");
        reports.record(&two, report(CHAT, None, Some("b")));
        assert_eq!(mismatches(), [false, true, true]);
        reports.record(&accounts, report(ACCOUNTS, None, Some("a")));
        assert_eq!(mismatches(), [true, false, true]);
        let mismatch = reports.value_mismatch(&two).unwrap();
        assert!(
            mismatch.contains("accounts at http://127.0.0.1:1: give") && mismatch.contains("--mongo-uri"),
            "{mismatch}"
        );
        reports.record(&two, report(CHAT, None, Some("a")));
        assert_eq!(mismatches(), [false; 3]);
    }

    /// Rows: the role, its largest message and body, and parts of the cause.
    #[test]
    fn limits_of_services_are_at_most_those_of_the_gateway() {
        let reports = RoleReports::default();
        let service = backend(1);
        let of = |role, payload, body| Some(RoleReport::new(role, None).with_limits(payload, body));
        reports.record(&service, of(CHAT, Some(9_999), Some(9_999)));
        assert_eq!(reports.value_mismatch(&service), None, "nothing to compare with");
        reports.compare_limits(Limits { payload: 2_048, body: 4_096 });
        type Row = (&'static str, Option<u64>, Option<u64>, &'static [&'static str]);
        let rows: [Row; 8] = [
            (CHAT, None, None, &[]),
            (CHAT, Some(2_048), Some(4_096), &[]),
            (CHAT, Some(1_024), Some(1), &[]),
            (CHAT, Some(2_049), Some(4_096), &["2049 bytes", "2048 bytes", "--payload-limit (GODZILLA_"]),
            (CHAT, Some(2_048), Some(4_097), &["4097 bytes", "4096 bytes", "--body-limit", "--text-limit"]),
            (CHAT, None, Some(4_097), &["4097 bytes", "--text-limit (GODZILLA_TEXT_LIMIT)"]),
            (ACCOUNTS, None, Some(4_096), &[]),
            (ACCOUNTS, None, Some(8_192), &["8192 bytes", "4096 bytes", "--login-body-limit (GODZILLA_"]),
        ];
        for (role, payload, body, parts) in rows {
            reports.record(&service, of(role, payload, body));
            let cause = reports.value_mismatch(&service);
            let row = format!("{role} {payload:?} {body:?}: {cause:?}");
            assert_eq!(cause.is_some(), !parts.is_empty(), "{row}");
            assert!(parts.iter().all(|part| cause.as_deref().unwrap_or_default().contains(part)), "{row}");
            let expected = if role == CHAT { Role::Chat } else { Role::Accounts };
            assert_eq!(reports.role_mismatch(expected, &service), None, "it gets requests: {row}");
        }
    }

    /// Rows: the holder of the claim, the database of accounts, and whether another deployment uses this Redis.
    #[test]
    fn a_claim_for_another_database_than_that_of_accounts_is_of_another_deployment() {
        let rows: [(Option<&str>, Option<&str>, bool); 5] = [
            (None, None, false),
            (None, Some("a"), false),
            (Some("a"), None, false),
            (Some("a"), Some("a"), false),
            (Some("b"), Some("a"), true),
        ];
        for (holder, database, is_other) in rows {
            let reports = RoleReports::default();
            let holder = holder.map(|id| (id.to_owned(), "staging".to_owned()));
            let keys = RedisKeys { id: "r".to_owned(), holder: holder.clone() };
            reports.compare_redis(watch::channel(Some(keys)).1);
            reports.record(&backend(1), report(ACCOUNTS, None, database));
            reports.record(&backend(2), report(CHAT, None, Some("c")));
            let other = reports.other_deployment();
            assert_eq!(other.is_some(), is_other, "{holder:?} {database:?}: {other:?}");
            assert!(other.is_none_or(|other| other.contains("staging (id b)") && other.contains("(id a)")));
        }
    }
}
