//! Health checks of chat nodes and of accounts. A process that is stopped or whose network is partitioned keeps its TCP
//! connections open. So each node is probed twice per second, and a node without a response for [`RESPONSE_TIMEOUT`] is
//! unresponsive until it responds again. Its WebSockets are closed and its pending requests are cancelled, so that clients
//! reconnect to another node. Probes need no traffic of clients, so a gateway that is out of service because its nodes
//! cannot be reached detects by itself that they can. The responses also show whether a service accepts the signatures of
//! this gateway ([`super::faults`]), and what a service reports of itself ([`super::role_reports`]). Used by [`super`].

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use cluster::{Backend, Nodes};
use proto::signature::Key;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    faults::{Fault, Faults},
    probe::{self, Failure, Shown},
    role_reports::RoleReports,
    roles::Role,
};

/// The time without a response after which a node is unresponsive. Together with [`PROBE_INTERVAL`], clients are
/// disconnected within 4 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(3_500);

/// The time between a response and the next probe.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// The minimum timeout of a probe.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A wait that exceeds its duration by this much shows that this process was paused. Nodes are not judged by such a wait.
const PROCESS_PAUSE: Duration = Duration::from_secs(1);

/// Detects services that do not respond.
#[derive(Default)]
pub(super) struct HealthChecks {
    /// The state of each service, by address.
    states: Mutex<HashMap<Backend, watch::Sender<State>>>,
    /// The faults that the responses show.
    pub(super) faults: Faults,
    /// What the services report of themselves.
    pub(super) reports: RoleReports,
}

/// What the probes of a service have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// No probe has ended yet.
    #[default]
    Unprobed,
    /// It responds.
    Responds,
    /// A service that has not responded to any probe yet.
    Unreachable(Failure),
    /// A node that has responded before, and not for [`RESPONSE_TIMEOUT`].
    Unresponsive(Failure),
    /// The same of accounts. Requests to it are not cancelled, because an accounts service that drains completes them.
    Unavailable(Failure),
}

/// The probes of one service.
struct Probe {
    key: Key,
    backend: Backend,
    /// The table of nodes.
    nodes: watch::Receiver<Nodes>,
    /// The role that the service should have.
    expected: Role,
    /// When the service last responded, or when its probes began.
    last_response: Instant,
    /// Whether the service has responded.
    has_responded: bool,
}

impl State {
    /// Why the service cannot be reached.
    pub(super) fn failure(self) -> Option<Failure> {
        match self {
            Self::Unreachable(failure) | Self::Unresponsive(failure) | Self::Unavailable(failure) => {
                Some(failure)
            }
            Self::Unprobed | Self::Responds => None,
        }
    }
}

impl HealthChecks {
    /// Probes the nodes in the table, and accounts, until the table or `health` is dropped.
    pub(super) async fn run(
        health: Weak<Self>,
        key: Key,
        accounts: Option<Backend>,
        mut nodes: watch::Receiver<Nodes>,
    ) {
        // A set with one task, which aborts the task on drop.
        let mut probes: HashMap<Backend, JoinSet<()>> = HashMap::new();
        loop {
            let mut listed: Vec<Backend> =
                nodes.borrow_and_update().iter().map(|(_, node)| node.backend.clone()).collect();
            listed.extend(accounts.clone());
            let Some(checks) = health.upgrade() else { return };
            probes.retain(|backend, _| listed.contains(backend));
            checks.states().retain(|backend, _| listed.contains(backend));
            checks.faults.retain(&listed);
            checks.reports.retain(&listed);
            for backend in listed {
                let is_accounts = accounts.as_ref() == Some(&backend);
                let expected = if is_accounts { Role::Accounts } else { Role::Chat };
                probes.entry(backend.clone()).or_insert_with(|| {
                    let probe = Probe::new(key.clone(), backend, nodes.clone(), expected);
                    let mut task = JoinSet::new();
                    task.spawn(probe_loop(health.clone(), probe));
                    task
                });
            }
            drop(checks);
            if nodes.changed().await.is_err() {
                return;
            }
        }
    }

    /// The state of this service.
    pub(super) fn state(&self, backend: &Backend) -> State {
        self.states().get(backend).map(|state| *state.borrow()).unwrap_or_default()
    }

    /// Whether requests to the node with this name probably fail: it does not respond, rejects all requests, or another node,
    /// role or program has its address.
    pub(super) fn is_unusable(&self, name: &str, backend: &Backend) -> bool {
        self.state(backend).failure().is_some()
            || self.faults.rejects(backend)
            || self.reports.mismatch(name, backend).is_some()
    }

    /// Whether the responses of this service show that it is another program, or of another role than `expected`.
    pub(super) fn is_another_program(&self, expected: Role, backend: &Backend) -> bool {
        self.reports.role_mismatch(expected, backend).is_some()
            || matches!(self.faults.of(backend), Some(Fault::Status(_)))
            || self.state(backend).failure() == Some(Failure::Malformed)
    }

    /// The fault, with the cause that the claim of Redis shows.
    pub(super) fn describe(&self, fault: Fault) -> String {
        match self.reports.other_deployment() {
            Some(other) => fault.of_other_deployment(&other),
            None => fault.to_string(),
        }
    }

    /// Resolves when this node is unresponsive, or has been unreachable for [`RESPONSE_TIMEOUT`] from now on. Never resolves
    /// for a service that is not a chat node.
    pub(super) async fn unresponsive(&self, backend: &Backend) {
        let mut state = self.states().entry(backend.clone()).or_default().subscribe();
        loop {
            let silent = |state: &State| matches!(state, State::Unresponsive(_) | State::Unreachable(_));
            match state.wait_for(silent).await.map(|state| *state) {
                Ok(State::Unresponsive(_)) => return,
                Ok(_) => {}
                Err(_) => break,
            }
            // A node that has just started responds soon.
            let changes = state.wait_for(|state| !matches!(state, State::Unreachable(_)));
            match timeout(RESPONSE_TIMEOUT, changes).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => break,
                Err(_) => return,
            }
        }
        // The node was removed from the table. Its liveness is determined elsewhere.
        std::future::pending().await
    }

    fn set(&self, backend: &Backend, state: State) {
        let before = self.states().entry(backend.clone()).or_default().send_replace(state);
        let was_unresponsive = matches!(before, State::Unresponsive(_));
        if let State::Unresponsive(cause) = state
            && !was_unresponsive
        {
            metrics::counter!("godzilla_unresponsive_nodes_total").increment(1);
            tracing::warn!(%backend, %cause, "a chat node does not respond: its sockets are closed, clients reconnect to others");
        } else if was_unresponsive && state == State::Responds {
            tracing::info!(%backend, "a chat node responds again");
        }
    }

    fn states(&self) -> MutexGuard<'_, HashMap<Backend, watch::Sender<State>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe {
    fn new(key: Key, backend: Backend, nodes: watch::Receiver<Nodes>, expected: Role) -> Self {
        Self { key, backend, nodes, expected, last_response: Instant::now(), has_responded: false }
    }

    /// The state after a failure. `None` while it does not change the state.
    fn after(&self, failure: Failure) -> Option<State> {
        if !self.has_responded {
            return Some(State::Unreachable(failure));
        }
        let is_silent = self.last_response.elapsed() >= RESPONSE_TIMEOUT;
        let state = match self.expected {
            Role::Chat => State::Unresponsive,
            Role::Accounts => State::Unavailable,
        };
        is_silent.then(|| state(failure))
    }
}

/// Probes one service until `health` is dropped.
async fn probe_loop(health: Weak<HealthChecks>, mut probe: Probe) {
    let mut connection = None;
    loop {
        let (started, within) =
            (Instant::now(), RESPONSE_TIMEOUT.saturating_sub(probe.last_response.elapsed()).max(MIN_TIMEOUT));
        let sent = probe::send(&probe.backend, probe.expected, &probe.key, &mut connection);
        let outcome = timeout(within, sent).await;
        let Some(health) = health.upgrade() else { return };
        match outcome.unwrap_or(Err(Failure::Timeout)) {
            _ if started.elapsed() > within + PROCESS_PAUSE => probe.last_response = Instant::now(),
            Ok(Shown { fault, report }) => {
                (probe.last_response, probe.has_responded) = (Instant::now(), true);
                health.faults.record(&probe.backend, fault, |fault| health.describe(fault));
                health.reports.record(&probe.backend, report);
                health.set(&probe.backend, State::Responds);
            }
            Err(failure) => {
                connection = None;
                if let Some(state) = probe.after(failure) {
                    health.set(&probe.backend, state);
                    // The service that responds next may be another one. Others are not compared with a service that has ended.
                    health.reports.record(&probe.backend, None);
                }
            }
        }
        health.reports.warn(probe.expected, &probe.nodes.borrow(), &probe.backend);
        drop(health);
        let slept = Instant::now();
        sleep(PROBE_INTERVAL).await;
        if slept.elapsed() > PROBE_INTERVAL + PROCESS_PAUSE {
            probe.last_response = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use cluster::Node;

    use super::*;

    #[tokio::test]
    async fn a_node_is_unresponsive_until_it_responds_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = |listener: &TcpListener| -> Backend {
            format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
        };
        let (one, two) = (backend(&listener), backend(&other));
        let node = |name: &str, backend: &Backend| {
            (name.to_owned(), Node { backend: backend.clone(), is_open: true })
        };
        let (_table, nodes) = watch::channel(Nodes::new([node("one", &one), node("two", &two)]));
        let health = Arc::new(HealthChecks::default());
        tokio::spawn(HealthChecks::run(Arc::downgrade(&health), Key::new(&[7; 32]).unwrap(), None, nodes));
        tokio::spawn(respond(other));
        // The kernel accepts connections on behalf of a stopped process.
        let patience = Duration::from_secs(20);
        timeout(patience, health.unresponsive(&one)).await.expect("noticed");
        assert_eq!(
            (health.state(&one), health.state(&two)),
            (State::Unreachable(Failure::Timeout), State::Responds)
        );
        let mut task = tokio::spawn(respond(listener));
        becomes(&health, &one, State::Responds).await;
        let unknown: Backend = "http://127.0.0.1:1".parse().unwrap();
        for responding in [&one, &two, &unknown] {
            assert!(timeout(Duration::from_millis(10), health.unresponsive(responding)).await.is_err());
        }
        // Its listener is dropped.
        task.abort();
        assert!((&mut task).await.is_err());
        becomes(&health, &one, State::Unresponsive(Failure::Refused)).await;
        timeout(patience, health.unresponsive(&one)).await.expect("noticed");
    }

    async fn becomes(health: &HealthChecks, backend: &Backend, state: State) {
        let until = async {
            while health.state(backend) != state {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), until)
            .await
            .unwrap_or_else(|_| panic!("{:?} instead of {state:?}", health.state(backend)));
    }

    async fn respond(listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut head = [0; 4_096];
                while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                    let response = "HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\n{\"role\":\"chat\"}";
                    if stream.write_all(response.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}
