//! Health checks of chat nodes. A process that is stopped or whose network is partitioned keeps its TCP connections open.
//! So each node is probed twice per second, and a node without a response for [`RESPONSE_TIMEOUT`] is unresponsive until it
//! responds again. Its WebSockets are closed and its pending requests are cancelled, so that clients reconnect to another
//! node. The responses also show whether a service accepts the signatures of this gateway ([`super::faults`]); accounts is
//! probed only for that. Used by [`super`].

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use proto::{
    Timestamp,
    signature::{HEADER, Key, Target},
};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    backend::Backend,
    faults::{Fault, Faults},
    nodes::Nodes,
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

/// The maximum size of a response, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// The target of probes. They are anonymous, so a service that accepts the signature responds with 404.
const PATH: &str = "/healthz";

/// Detects nodes that do not respond.
#[derive(Default)]
pub(super) struct HealthChecks {
    /// Whether each node is unresponsive, by address.
    states: Mutex<HashMap<String, watch::Sender<bool>>>,
    /// The faults that the responses show.
    pub(super) faults: Faults,
}

/// The probe of one service.
struct Probe {
    key: Key,
    backend: Backend,
    /// Whether the service is a chat node. An unresponsive accounts service has no sockets to close.
    is_node: bool,
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
        let mut probes: HashMap<String, JoinSet<()>> = HashMap::new();
        loop {
            let mut listed: Vec<Backend> =
                nodes.borrow_and_update().iter().map(|(_, node)| node.backend.clone()).collect();
            listed.extend(accounts.clone());
            let Some(checks) = health.upgrade() else { return };
            let is_listed = |name: &String| listed.iter().any(|backend| backend.to_string() == *name);
            probes.retain(|name, _| is_listed(name));
            checks.states().retain(|name, _| is_listed(name));
            checks.faults.retain(&listed);
            for backend in listed {
                let is_node = accounts.as_ref() != Some(&backend);
                probes.entry(backend.to_string()).or_insert_with(|| {
                    let mut task = JoinSet::new();
                    task.spawn(probe_loop(health.clone(), Probe { key: key.clone(), backend, is_node }));
                    task
                });
            }
            drop(checks);
            if nodes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether this node is unresponsive.
    pub(super) fn is_unresponsive(&self, backend: &Backend) -> bool {
        self.states().get(&backend.to_string()).is_some_and(|state| *state.borrow())
    }

    /// Resolves when this node is unresponsive. Never resolves for a service that is not probed.
    pub(super) async fn unresponsive(&self, backend: &Backend) {
        let mut state = self.states().entry(backend.to_string()).or_default().subscribe();
        if state.wait_for(|is_unresponsive| *is_unresponsive).await.is_err() {
            // The node was removed from the table. Its liveness is determined elsewhere.
            std::future::pending().await
        }
    }

    fn set_unresponsive(&self, backend: &Backend, is_unresponsive: bool) {
        let was_unresponsive =
            self.states().entry(backend.to_string()).or_default().send_replace(is_unresponsive);
        if is_unresponsive && !was_unresponsive {
            metrics::counter!("godzilla_unresponsive_nodes_total").increment(1);
            tracing::warn!(%backend, "a chat node does not respond: its sockets are closed, clients reconnect to others");
        }
    }

    fn states(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<bool>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Probes one service until `health` is dropped.
async fn probe_loop(health: Weak<HealthChecks>, probe: Probe) {
    let (mut last_response, mut connection) = (Instant::now(), None);
    loop {
        let (started, within) =
            (Instant::now(), RESPONSE_TIMEOUT.saturating_sub(last_response.elapsed()).max(MIN_TIMEOUT));
        let outcome = timeout(within, probe.send(&mut connection)).await;
        let Some(health) = health.upgrade() else { return };
        if started.elapsed() > within + PROCESS_PAUSE {
            last_response = Instant::now();
        } else if let Ok(Some(fault)) = outcome {
            last_response = Instant::now();
            health.faults.record(&probe.backend, fault);
            if probe.is_node {
                health.set_unresponsive(&probe.backend, false);
            }
        } else {
            connection = None;
            if probe.is_node && last_response.elapsed() >= RESPONSE_TIMEOUT {
                health.set_unresponsive(&probe.backend, true);
            }
        }
        drop(health);
        let slept = Instant::now();
        sleep(PROBE_INTERVAL).await;
        if slept.elapsed() > PROBE_INTERVAL + PROCESS_PAUSE {
            last_response = Instant::now();
        }
    }
}

impl Probe {
    /// Sends a probe over `connection`, or over a new one. `None` when there is no response, else the fault that the
    /// response shows.
    async fn send(&self, connection: &mut Option<SendRequest<Full<Bytes>>>) -> Option<Option<Fault>> {
        if connection.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect(self.backend.address()).await.ok()?;
            let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
            // The driver ends with the connection, which closes when its sender is dropped.
            tokio::spawn(driver);
            *connection = Some(sender);
        }
        let sender = connection.as_mut()?;
        sender.ready().await.ok()?;
        let target = Target { method: "GET", path: PATH };
        let request = Request::get(PATH)
            .header("host", self.backend.address())
            .header(HEADER, self.key.sign(None, target, Timestamp::now()))
            .body(Full::default());
        let response = sender.send_request(request.ok()?).await.ok()?;
        let fault = Fault::of(&response, SystemTime::now());
        Limited::new(response.into_body(), MAX_BODY).collect().await.ok().map(|_| fault)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{super::nodes::Node, *};

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
        timeout(Duration::from_secs(20), health.unresponsive(&one)).await.expect("noticed");
        assert!(health.is_unresponsive(&one) && !health.is_unresponsive(&two));
        tokio::spawn(respond(listener));
        let responds_again = async {
            while health.is_unresponsive(&one) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), responds_again).await.expect("noticed");
        let unknown: Backend = "http://127.0.0.1:1".parse().unwrap();
        assert!(timeout(Duration::from_millis(10), health.unresponsive(&unknown)).await.is_err());
    }

    async fn respond(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4_096];
                while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                    let response = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}";
                    if stream.write_all(response.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}
