//! Which chat nodes answer. A process that is stopped, or whose way is cut, keeps its TCP connections open: each node is asked twice a
//! second, and one that has answered nothing for [`SILENT`] is silent until it answers again. Its WebSockets are ended and requests
//! for it are given up, so that clients reconnect to another node. The answers also show whether a service accepts what this gateway
//! signs ([`super::refusals`]); accounts is asked for that alone. Asked by [`super`].

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
    nodes::Nodes,
    refusals::{Fault, Refusals},
};

/// How long a node may answer nothing. With [`PAUSE`] a client learns within 4 s that its node does not answer.
const SILENT: Duration = Duration::from_millis(3_500);

/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(500);

/// The least time for an answer.
const LEAST: Duration = Duration::from_secs(1);

/// A wait that lasts longer than it should by this means that this process did not run: no node is judged by it.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// The largest answer, in bytes.
const ANSWER: usize = 16 * 1024;

/// What is asked for. Nobody is named, so a service that accepts the signature answers that there is no such page.
const PATH: &str = "/healthz";

/// Detects nodes that do not respond.
#[derive(Default)]
pub(super) struct Pulse {
    /// Whether each node is silent, by its address.
    silent: Mutex<HashMap<String, watch::Sender<bool>>>,
    /// What the answers show.
    pub(super) refusals: Refusals,
}

/// The question, the same for all services.
struct Question {
    key: Key,
    backend: Backend,
    /// Whether silence ends the sockets: not of accounts, which has none.
    is_node: bool,
}

impl Pulse {
    /// Asks the nodes in the table, and accounts, until the table or `pulse` is gone.
    pub(super) async fn follow(
        pulse: Weak<Self>,
        key: Key,
        accounts: Option<Backend>,
        mut nodes: watch::Receiver<Nodes>,
    ) {
        // A set of one task ends it when it is dropped.
        let mut asked: HashMap<String, JoinSet<()>> = HashMap::new();
        loop {
            let mut wanted: Vec<Backend> =
                nodes.borrow_and_update().iter().map(|(_, node)| node.backend.clone()).collect();
            wanted.extend(accounts.clone());
            let Some(alive) = pulse.upgrade() else { return };
            let is_wanted = |name: &String| wanted.iter().any(|backend| backend.to_string() == *name);
            asked.retain(|name, _| is_wanted(name));
            alive.states().retain(|name, _| is_wanted(name));
            alive.refusals.retain(&wanted);
            for backend in wanted {
                let is_node = accounts.as_ref() != Some(&backend);
                asked.entry(backend.to_string()).or_insert_with(|| {
                    let mut task = JoinSet::new();
                    task.spawn(ask(pulse.clone(), Question { key: key.clone(), backend, is_node }));
                    task
                });
            }
            drop(alive);
            if nodes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether this node answers nothing.
    pub(super) fn is_silent(&self, backend: &Backend) -> bool {
        self.states().get(&backend.to_string()).is_some_and(|state| *state.borrow())
    }

    /// Resolves when this node is silent; never for a service that is not asked.
    pub(super) async fn silence(&self, backend: &Backend) {
        let mut state = self.states().entry(backend.to_string()).or_default().subscribe();
        if state.wait_for(|silent| *silent).await.is_err() {
            // It has left the table: whether it lives is judged otherwise.
            std::future::pending().await
        }
    }

    fn set(&self, backend: &Backend, silent: bool) {
        let was_silent = self.states().entry(backend.to_string()).or_default().send_replace(silent);
        if silent && !was_silent {
            metrics::counter!("godzilla_nodes_silent_total").increment(1);
            tracing::warn!(%backend, "a chat node does not answer: its sockets are closed, clients reconnect to others");
        }
    }

    fn states(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<bool>>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks one node for ever.
async fn ask(pulse: Weak<Pulse>, question: Question) {
    let (mut answered, mut connection) = (Instant::now(), None);
    loop {
        let (started, within) = (Instant::now(), SILENT.saturating_sub(answered.elapsed()).max(LEAST));
        let outcome = timeout(within, question.ask(&mut connection)).await;
        let Some(pulse) = pulse.upgrade() else { return };
        if started.elapsed() > within + STOOD_STILL {
            answered = Instant::now();
        } else if let Ok(Some(fault)) = outcome {
            answered = Instant::now();
            pulse.refusals.note(&question.backend, fault);
            if question.is_node {
                pulse.set(&question.backend, false);
            }
        } else {
            connection = None;
            if question.is_node && answered.elapsed() >= SILENT {
                pulse.set(&question.backend, true);
            }
        }
        drop(pulse);
        let rested = Instant::now();
        sleep(PAUSE).await;
        if rested.elapsed() > PAUSE + STOOD_STILL {
            answered = Instant::now();
        }
    }
}

impl Question {
    /// What the answer shows, when there is one, over `connection` or a new one.
    async fn ask(&self, connection: &mut Option<SendRequest<Full<Bytes>>>) -> Option<Option<Fault>> {
        if connection.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect(self.backend.address()).await.ok()?;
            let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
            // Ends with the connection, which ends with its sender.
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
        let answer = sender.send_request(request.ok()?).await.ok()?;
        let fault = Fault::of(&answer, SystemTime::now());
        Limited::new(answer.into_body(), ANSWER).collect().await.ok().map(|_| fault)
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
    async fn a_node_that_answers_nothing_is_silent_until_it_answers() {
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
        let pulse = Arc::new(Pulse::default());
        tokio::spawn(Pulse::follow(Arc::downgrade(&pulse), Key::new(&[7; 32]).unwrap(), None, nodes));
        tokio::spawn(answers(other));
        // The kernel accepts for a process that is stopped.
        timeout(Duration::from_secs(20), pulse.silence(&one)).await.expect("noticed");
        assert!(pulse.is_silent(&one) && !pulse.is_silent(&two));
        tokio::spawn(answers(listener));
        let answers_again = async {
            while pulse.is_silent(&one) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), answers_again).await.expect("noticed");
        let unknown: Backend = "http://127.0.0.1:1".parse().unwrap();
        assert!(timeout(Duration::from_millis(10), pulse.silence(&unknown)).await.is_err());
    }

    async fn answers(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4_096];
                while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}";
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}
