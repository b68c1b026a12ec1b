//! What `/readyz` of a gateway reports about the services behind it: which of them cannot be used, and why. Reads the
//! results of the probes in [`super::health`], which need no traffic of clients.

use super::{
    Proxy,
    faults::Fault,
    health::{HealthChecks, State},
    probe::Failure,
    role_reports::shared,
    roles::Role,
};
use cluster::{Backend, Node};

/// The maximum number of nodes that a report names for one cause.
const MAX_NAMED: usize = 8;

/// Causes, each with the nodes that it affects.
#[derive(Default)]
struct Problems(Vec<(String, Vec<String>)>);

impl Proxy {
    /// Why no chat node can be used, as text that follows "chat": all open nodes cannot be reached, do not respond or reject
    /// requests. `None` when one can be used. Nodes that report that they are not ready degrade the gateway only: the cause is a store
    /// that all gateways share, and a load balancer that removed all of them would end the connections that still work.
    pub fn chat_not_ready_reason(&self) -> Option<String> {
        let nodes = self.0.upstreams.nodes.borrow();
        if !nodes.has_open() {
            let closed: Vec<&str> = nodes.iter().map(|(name, _)| name).collect();
            return Some(match closed.is_empty() {
                true => "has no live node in the table of nodes".to_owned(),
                false => format!("has no node that accepts sessions: {} start or drain", listed(&closed)),
            });
        }
        let mut problems = Problems::default();
        for (name, node) in nodes.iter().filter(|(_, node)| node.is_open) {
            problems.add(name, node, unusable(&self.0.health, name, &node.backend)?);
        }
        Some(format!("has no usable node: {}", problems.describe()))
    }

    /// The nodes that cannot be used, are not ready, will reject requests or have the address of another one, as text that
    /// follows "chat". Nodes that start or drain do not have to respond or to be ready.
    pub fn chat_degradation(&self) -> Option<String> {
        let (nodes, health) = (self.0.upstreams.nodes.borrow(), &self.0.health);
        let mut problems = Problems::default();
        for (name, node) in nodes.iter() {
            let failure = health.state(&node.backend).failure().filter(|_| node.is_open);
            let cause = failure.map(|failure| described(Role::Chat, failure));
            let fault = || health.faults.of(&node.backend).map(|fault| faulty(health, Role::Chat, fault));
            let not_ready = || health.reports.not_ready_reason(&node.backend).filter(|_| node.is_open);
            let cause = cause.or_else(fault).or_else(|| shared(&nodes, name, &node.backend));
            let cause = cause.or_else(|| health.reports.mismatch(name, &node.backend)).or_else(not_ready);
            let cause = cause.or_else(|| health.reports.value_mismatch(&node.backend));
            cause.into_iter().for_each(|cause| problems.add(name, node, cause));
        }
        (!problems.0.is_empty()).then(|| format!("has faulty nodes: {}", problems.describe()))
    }

    /// Why accounts cannot be reached, rejects requests or will reject them, is another program or is not ready, as text that follows
    /// "accounts". Without it, users who are logged in can still chat, and other gateways would not do better.
    pub fn accounts_degradation(&self) -> Option<String> {
        let (accounts, health) = (&self.0.upstreams.accounts, &self.0.health);
        let failure = health.state(accounts).failure().map(|failure| described(Role::Accounts, failure));
        let fault = || health.faults.of(accounts).map(|fault| faulty(health, Role::Accounts, fault));
        let mismatch = || health.reports.role_mismatch(Role::Accounts, accounts);
        let not_ready = || health.reports.not_ready_reason(accounts);
        let value = || health.reports.value_mismatch(accounts);
        let cause = failure.or_else(fault).or_else(mismatch).or_else(not_ready).or_else(value)?;
        Some(format!("at {accounts}: {cause}"))
    }
}

/// Why this node cannot be used. A node is used after its first response.
fn unusable(health: &HealthChecks, name: &str, backend: &Backend) -> Option<String> {
    let state = health.state(backend);
    match (state.failure(), state) {
        (Some(failure), _) => Some(described(Role::Chat, failure)),
        (None, State::Unprobed) => Some("has not responded yet".to_owned()),
        (None, _) => {
            let fault = health.faults.of(backend).filter(|fault| fault.is_rejected());
            let mismatch = || health.reports.mismatch(name, backend);
            fault.map(|fault| faulty(health, Role::Chat, fault)).or_else(mismatch)
        }
    }
}

/// The failure of a service of this role. Another program at its address has the remedy of the role.
fn described(role: Role, failure: Failure) -> String {
    match failure {
        Failure::Malformed => format!("{failure}; expected {role}: {}", role.remedy()),
        _ => failure.to_string(),
    }
}

/// The fault of a service of this role. Another program at its address has the remedy of the role.
fn faulty(health: &HealthChecks, role: Role, fault: Fault) -> String {
    match fault {
        Fault::Status(_) => format!("{fault}; expected {role}: {}", role.remedy()),
        _ => health.describe(fault),
    }
}

impl Problems {
    fn add(&mut self, name: &str, node: &Node, cause: String) {
        let node = format!("{name} ({})", node.backend);
        match self.0.iter_mut().find(|(other, _)| *other == cause) {
            Some((_, nodes)) => nodes.push(node),
            None => self.0.push((cause, vec![node])),
        }
    }

    /// The nodes of each cause, and the cause.
    fn describe(&self) -> String {
        let one = |(cause, nodes): &(String, Vec<String>)| {
            let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
            format!("{}: {cause}", listed(&nodes))
        };
        self.0.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

/// At most [`MAX_NAMED`] names, and the number of the others.
fn listed(names: &[&str]) -> String {
    let named = names[..names.len().min(MAX_NAMED)].join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
