//! Load: a thousand clients in the lobby and ten senders, which send fifty messages a second. Used by the load tests.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{LoadClient, Socket, TestServer, TestUser, load_client::LAST_MESSAGE};

/// The most sockets that one user may have.
const PER_USER: usize = 20;
/// Enough that every sender stays below the rate limit of one socket.
const SENDERS: usize = 10;
/// The time between two messages.
const PAUSE: Duration = Duration::from_millis(20);
/// How many clients connect at the same time.
const AT_ONCE: usize = 32;

/// The sockets that send.
pub struct LoadSenders {
    senders: Vec<Socket>,
    last: TestUser,
}

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

impl LoadSenders {
    /// Connects the senders.
    pub async fn connect(server: &TestServer) -> Self {
        let mut senders = Vec::new();
        for n in 0..SENDERS {
            senders.push(server.user(&format!("sender{n}")).await.connect().await);
        }
        Self { senders, last: server.user("last").await }
    }

    /// Connects `count` clients of these users over long-polling.
    pub async fn polling_clients(users: &[TestUser], count: usize) -> Vec<LoadClient> {
        let connecting = (0..count).map(|n| LoadClient::connect(&users[n % users.len()]));
        stream::iter(connecting).buffer_unordered(AT_ONCE).collect().await
    }

    /// Sends `count` messages of `bytes` bytes each, requires an ack for each, then sends [`LAST_MESSAGE`]. Returns the `seq` of
    /// all messages.
    pub async fn send_messages(&mut self, count: usize, bytes: usize) -> Vec<u64> {
        let mut clock = tokio::time::interval(PAUSE);
        let (text, mut requests) = ("x".repeat(bytes), Vec::new());
        for n in 0..count {
            clock.tick().await;
            let sender = n % self.senders.len();
            requests.push((sender, self.senders[sender].request("message", &json!({"text": text}))));
        }
        for (sender, id) in requests {
            let ack = self.senders[sender].ack(id).await;
            assert_eq!(ack["ok"], true, "{ack}");
        }
        self.last.post("/rooms/lobby/messages", &json!({"text": LAST_MESSAGE})).await.expect(201);
        (1..=count as u64 + 1).collect()
    }
}
