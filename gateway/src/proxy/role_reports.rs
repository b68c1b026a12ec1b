//! What the services report of themselves in their responses to probes: the role, the name of a node, the ids of the stores in use, and why
//! the service is not ready. A node that has lost MongoDB or Redis only for itself still responds. Another node, another role or another program can
//! respond at the address of a service. Recorded by [`super::health`].

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use cluster::{Backend, Nodes};
use proto::{
    RoleReport,
    role_report::{ACCOUNTS, CHAT},
};
use tokio::sync::watch;

use super::roles::Role;

/// The minimum time between two warnings about the services at one address.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The mismatch of a service with another Redis, and the remedy.
const OTHER_REDIS: &str = "uses another Redis, or another part of it, than this gateway: give all roles the same --redis-url (GODZILLA_REDIS_URL), with its database number, and the same --deployment (GODZILLA_DEPLOYMENT)";

/// The remedy for services with different databases.
const SAME_DATABASE: &str = "give all roles the same --mongo-uri (GODZILLA_MONGO_URI) and the same --deployment (GODZILLA_DEPLOYMENT)";

/// The remedy for nodes with different presence services.
const ONE_PRESENCE: &str =
    "run one presence service, and give all chat nodes the same --presence-url (GODZILLA_PRESENCE_URL)";

/// The last reports, by service address.
#[derive(Debug, Default)]
pub(super) struct RoleReports {
    reports: Mutex<HashMap<Backend, RoleReport>>,
    /// The times of the last warnings.
    warned: Mutex<HashMap<Backend, Instant>>,
    /// The id of the Redis of this gateway. Services are not compared with it before it is set and read.
    redis_id: OnceLock<watch::Receiver<Option<String>>>,
}

impl RoleReports {
    /// Compares the Redis of each service with this one. Further calls have no effect.
    pub(super) fn compare_redis(&self, id: watch::Receiver<Option<String>>) {
        _ = self.redis_id.set(id);
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
        expected.mismatch(report.role.as_deref()).or_else(|| self.redis_mismatch(report))
    }

    /// Why the Redis of a service is not that of this gateway. `None` when it is, and for a service of a release without ids.
    fn redis_mismatch(&self, report: &RoleReport) -> Option<String> {
        let own = self.redis_id.get()?.borrow().clone()?;
        let is_other = report.redis_id.as_ref()? != &own;
        is_other.then(|| OTHER_REDIS.to_owned())
    }

    /// Why the database of MongoDB of a service is not that of the others: that of accounts, and for accounts that of every node. Nodes are
    /// compared with each other while accounts reports no id. `None` for a service of a release without ids.
    pub(super) fn database_mismatch(&self, backend: &Backend) -> Option<String> {
        let reports = lock(&self.reports);
        let report = reports.get(backend)?;
        let own = report.database_id.as_ref()?;
        let is_of = |role: &str, other: &RoleReport| {
            other.role.as_deref() == Some(role) && other.database_id.is_some()
        };
        let has_accounts = reports.values().any(|other| is_of(ACCOUNTS, other));
        let compared = if has_accounts && report.role.as_deref() != Some(ACCOUNTS) { ACCOUNTS } else { CHAT };
        let others = reports
            .iter()
            .filter(|(_, other)| is_of(compared, other) && other.database_id.as_ref() != Some(own));
        let (address, role) = others.map(|(address, _)| (address.to_string(), compared)).min()?;
        Some(format!("uses another database of MongoDB than {role} at {address}: {SAME_DATABASE}"))
    }

    /// Why the presence service of a node is not that of another node. `None` when it is, and for a node of a release without the id. While
    /// the service restarts, nodes may report different ids for a second.
    pub(super) fn presence_mismatch(&self, backend: &Backend) -> Option<String> {
        let reports = lock(&self.reports);
        let own = reports.get(backend)?.presence_id.as_ref()?;
        let others =
            reports.iter().filter(|(_, other)| other.presence_id.as_ref().is_some_and(|other| other != own));
        let address = others.map(|(address, _)| address.to_string()).min()?;
        Some(format!("reports to another presence service than the node at {address}: {ONE_PRESENCE}"))
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
        let Some(cause) = cause.or_else(|| self.database_mismatch(backend)) else { return };
        let mut warned = lock(&self.warned);
        if warned.get(backend).is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
            warned.insert(backend.clone(), Instant::now());
            drop(warned);
            tracing::warn!(%backend, "the service at the address of {expected} is not one of this deployment: {cause}");
        }
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
        let (id, receiver) = watch::channel(None);
        let (accounts, node) = (backend(1), backend(2));
        reports.record(&accounts, report(ACCOUNTS, Some("b"), None));
        reports.record(&node, report(CHAT, None, None));
        assert_eq!(reports.role_mismatch(Role::Accounts, &accounts), None, "nothing to compare with");
        reports.compare_redis(receiver);
        assert_eq!(reports.role_mismatch(Role::Accounts, &accounts), None, "the id is not read yet");
        id.send_replace(Some("a".to_owned()));
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
        let mismatches =
            || [&accounts, &one, &two].map(|service| reports.database_mismatch(service).is_some());
        assert_eq!(mismatches(), [false; 3], "two services are of the release before");
        reports.record(&two, report(CHAT, None, Some("b")));
        assert_eq!(mismatches(), [false, true, true]);
        reports.record(&accounts, report(ACCOUNTS, None, Some("a")));
        assert_eq!(mismatches(), [true, false, true]);
        let mismatch = reports.database_mismatch(&two).unwrap();
        assert!(
            mismatch.contains("accounts at http://127.0.0.1:1: give") && mismatch.contains("--mongo-uri"),
            "{mismatch}"
        );
        reports.record(&two, report(CHAT, None, Some("a")));
        assert_eq!(mismatches(), [false; 3]);
    }
}
