//! Load: a thousand clients in the lobby and ten senders, which send at most fifty messages a second and wait for the clients. Used by
//! the load tests.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{LoadClient, Request, Socket, TestServer, TestUser, load_client::LAST_MESSAGE};

/// The most sockets that one user may have.
const PER_USER: usize = 20;
/// Enough that every sender stays below the rate limit of one socket.
const SENDERS: usize = 10;
/// The time between two messages.
const PAUSE: Duration = Duration::from_millis(20);
/// How many clients connect at the same time.
const AT_ONCE: usize = 32;
/// The most messages that some client has not received yet. One second of messages: a machine that keeps up with the senders never
/// reaches it, and a slower machine sets the pace. It is a fifth of the frames of a send queue, so that no client that reads is dropped.
const WINDOW: usize = 50;

/// Flags of a server that does not end the session of a client that polls or responds late: the clients of a load run on the same machine,
/// and when it is slow they are late, too.
pub const PATIENT: [&str; 4] = ["--ping-interval", "300s", "--stall-timeout", "120s"];

/// The time limit of a client that is behind. Two thousand clients of a slow machine reconnect in less.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(120);

/// The sockets that send.
pub struct LoadSenders {
    senders: Vec<Socket>,
    last: TestUser,
    /// The clients for which they wait.
    progress: Progress,
}

/// The progress of the clients of a load: how many messages each has received.
#[derive(Debug, Default)]
pub struct Progress(pub Vec<watch::Receiver<usize>>);

impl TestServer {
    /// As many users as are needed for this many sockets; no socket is open yet.
    pub async fn users_for(&self, name: &str, sockets: usize) -> Vec<TestUser> {
        let mut users = Vec::new();
        for n in 0..sockets.div_ceil(PER_USER) {
            users.push(self.user(&format!("{name}{n}")).await);
        }
        users
    }
}

impl Progress {
    /// Waits until at most [`WINDOW`] of `sent` messages are missing at any client. A client that has ended has received all, or has failed:
    /// then its own assertion reports why.
    pub async fn catch_up(&mut self, sent: usize) {
        let enough = sent.saturating_sub(WINDOW);
        for client in &mut self.0 {
            let caught_up = timeout(CATCH_UP_TIMEOUT, client.wait_for(|received| *received >= enough)).await;
            assert!(caught_up.is_ok(), "a client received less than {enough} of {sent} messages");
        }
    }
}

impl LoadSenders {
    /// Connects the senders.
    pub async fn connect(server: &TestServer) -> Self {
        let mut senders = Vec::new();
        for n in 0..SENDERS {
            senders.push(server.user(&format!("sender{n}")).await.connect().await);
        }
        Self { senders, last: server.user("last").await, progress: Progress::default() }
    }

    /// Connects `count` clients of these users over long-polling. Client `n` polls from then on, upgrades to a WebSocket after
    /// `upgrade_after(n)` messages, and ends with [`LAST_MESSAGE`]. The senders wait for these clients.
    pub async fn start_clients(
        &mut self,
        users: &[TestUser],
        count: usize,
        upgrade_after: impl Fn(usize) -> usize,
    ) -> Vec<JoinHandle<LoadClient>> {
        let connecting = (0..count).map(|n| {
            let (connecting, upgrade_after) =
                (LoadClient::connect(&users[n % users.len()]), upgrade_after(n));
            async move {
                let client = connecting.await;
                (client.progress(), tokio::spawn(client.upgrade_after(upgrade_after)))
            }
        });
        let clients: Vec<_> = stream::iter(connecting).buffer_unordered(AT_ONCE).collect().await;
        let (progress, clients): (Vec<_>, Vec<_>) = clients.into_iter().unzip();
        self.progress.0.extend(progress);
        clients
    }

    /// Sends `count` messages of `bytes` bytes each, requires an ack for each, then sends [`LAST_MESSAGE`]. Returns the `seq` of
    /// all messages.
    pub async fn send_messages(&mut self, count: usize, bytes: usize) -> Vec<u64> {
        let mut clock = tokio::time::interval(PAUSE);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (text, mut requests) = ("x".repeat(bytes), Vec::new());
        for n in 0..count {
            clock.tick().await;
            self.progress.catch_up(n + 1).await;
            let sender = n % self.senders.len();
            requests.push((sender, self.senders[sender].request("message", &json!({"text": text}))));
        }
        for (sender, id) in requests {
            let ack = self.senders[sender].ack(id).await;
            assert_eq!(ack["ok"], true, "{ack}");
        }
        let last = json!({"text": LAST_MESSAGE, "clientId": LAST_MESSAGE});
        self.last.request_patiently(Request::post("/rooms/lobby/messages", &last)).await.expect(201);
        (1..=count as u64 + 1).collect()
    }
}
