//! What the chat nodes report of themselves in their responses to probes: the name, and why a node is not ready. A node that has
//! lost MongoDB or Redis only for itself still responds. Another node can respond at the address of a node. Recorded by
//! [`super::health`].

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use proto::NodeReport;

use super::{backend::Backend, nodes::Nodes};

/// The minimum time between two warnings about the names at one address.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The last reports, by service address.
#[derive(Debug, Default)]
pub(super) struct NodeReports {
    reports: Mutex<HashMap<String, NodeReport>>,
    /// The times of the last warnings.
    warned: Mutex<HashMap<String, Instant>>,
}

impl NodeReports {
    /// Records the latest report from this address. A name that no node can have is ignored.
    pub(super) fn record(&self, backend: &Backend, mut report: NodeReport) {
        report.node = report.node.filter(|name| Nodes::is_name(name));
        lock(&self.reports).insert(backend.to_string(), report);
    }

    /// Removes the reports of services that are not listed.
    pub(super) fn retain(&self, listed: &[Backend]) {
        let is_listed = |address: &String| listed.iter().any(|backend| backend.to_string() == *address);
        lock(&self.reports).retain(|address, _| is_listed(address));
        lock(&self.warned).retain(|address, _| is_listed(address));
    }

    /// Why the node at this address is not ready, as it reports. `None` when it is, or does not report it.
    pub(super) fn not_ready_reason(&self, backend: &Backend) -> Option<String> {
        let reason = lock(&self.reports).get(&backend.to_string())?.not_ready.clone()?;
        Some(format!("is not ready: {reason}"))
    }

    /// Whether the node at this address reports that it is not ready.
    pub(super) fn is_not_ready(&self, backend: &Backend) -> bool {
        lock(&self.reports).get(&backend.to_string()).is_some_and(|report| report.not_ready.is_some())
    }

    /// Whether another node responds at the address of the node with this name.
    pub(super) fn is_of_another(&self, name: &str, backend: &Backend) -> bool {
        self.other(name, backend).is_some()
    }

    /// Which other node responds at the address of the node with this name.
    pub(super) fn mismatch(&self, name: &str, backend: &Backend) -> Option<String> {
        let other = self.other(name, backend)?;
        Some(format!("the address of {name} is answered by {other}: --advertise must reach this node alone"))
    }

    /// Warns of another node at the address of a node, and of nodes with one address, once within [`WARN_INTERVAL`].
    pub(super) fn warn(&self, nodes: &Nodes, backend: &Backend) {
        let names: Vec<&str> =
            nodes.iter().filter(|(_, node)| node.backend == *backend).map(|(name, _)| name).collect();
        let cause = match names.as_slice() {
            [name] => self.mismatch(name, backend),
            [name, ..] => shared(nodes, name, backend),
            [] => None,
        };
        let Some(cause) = cause else { return };
        let mut warned = lock(&self.warned);
        if warned.get(&backend.to_string()).is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
            warned.insert(backend.to_string(), Instant::now());
            drop(warned);
            tracing::warn!(%backend, "the table of nodes is wrong: {cause}");
        }
    }

    fn other(&self, name: &str, backend: &Backend) -> Option<String> {
        lock(&self.reports).get(&backend.to_string())?.node.clone().filter(|other| other != name)
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
