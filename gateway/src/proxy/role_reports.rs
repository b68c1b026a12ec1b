//! What the services report of themselves in their responses to probes: the role, the name of a node, and why the service is not
//! ready. A node that has lost MongoDB or Redis only for itself still responds. Another node, another role or another program can
//! respond at the address of a service. Recorded by [`super::health`].

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cluster::{Backend, Nodes};
use proto::RoleReport;

use super::roles::Role;

/// The minimum time between two warnings about the services at one address.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The last reports, by service address.
#[derive(Debug, Default)]
pub(super) struct RoleReports {
    reports: Mutex<HashMap<Backend, RoleReport>>,
    /// The times of the last warnings.
    warned: Mutex<HashMap<Backend, Instant>>,
}

impl RoleReports {
    /// Records the latest report from this address. A name that no node can have is ignored. `None` is a service that rejects the
    /// signatures of this gateway.
    pub(super) fn record(&self, backend: &Backend, report: Option<RoleReport>) {
        let mut reports = lock(&self.reports);
        match report {
            Some(RoleReport { role, node, not_ready }) => {
                let node = node.filter(|name| Nodes::is_name(name));
                reports.insert(backend.clone(), RoleReport { role, node, not_ready });
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

    /// Why the service at this address is not of this role. `None` when it is, and before its first report.
    pub(super) fn role_mismatch(&self, expected: Role, backend: &Backend) -> Option<String> {
        expected.mismatch(lock(&self.reports).get(backend)?.role.as_deref())
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
        let Some(cause) = self.role_mismatch(expected, backend).or(cause) else { return };
        let mut warned = lock(&self.warned);
        if warned.get(backend).is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
            warned.insert(backend.clone(), Instant::now());
            drop(warned);
            tracing::warn!(%backend, "another service has the address of {expected}: {cause}");
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
