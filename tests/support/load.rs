//! A thousand clients in the lobby and ten people who talk to them, fifty messages a second. Used by the tests under load.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{LoadClient, Socket, TestServer, TestUser, load_client::THE_END};

/// As many sockets as one user may have.
const PER_USER: usize = 20;
/// So many that each stays below what one socket may say.
const SENDERS: usize = 10;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(20);
/// How many clients connect at once.
const AT_ONCE: usize = 32;

/// Those who talk.
pub struct LoadSenders {
    senders: Vec<Socket>,
    last: TestUser,
}

impl TestServer {
    /// As many people as it takes for this many sockets; nobody has connected yet.
    pub async fn users_for(&self, name: &str, sockets: usize) -> Vec<TestUser> {
        let mut users = Vec::new();
        for n in 0..sockets.div_ceil(PER_USER) {
            users.push(self.user(&format!("{name}{n}")).await);
        }
        users
    }
}

impl LoadSenders {
    /// The speakers come in.
    pub async fn gathers(server: &TestServer) -> Self {
        let mut senders = Vec::new();
        for n in 0..SENDERS {
            senders.push(server.user(&format!("speaker{n}")).await.connect().await);
        }
        Self { senders, last: server.user("last").await }
    }

    /// This many clients of these people connect, over long-polling.
    pub async fn clients(users: &[TestUser], count: usize) -> Vec<LoadClient> {
        let connecting = (0..count).map(|n| LoadClient::connect(&users[n % users.len()]));
        stream::iter(connecting).buffer_unordered(AT_ONCE).collect().await
    }

    /// Says `count` things that are so many bytes long, each acked, then that this is the end. Returns all places.
    pub async fn talks(&mut self, count: usize, bytes: usize) -> Vec<u64> {
        let mut clock = tokio::time::interval(PAUSE);
        let (text, mut asked) = ("x".repeat(bytes), Vec::new());
        for n in 0..count {
            clock.tick().await;
            let sender = n % self.senders.len();
            asked.push((sender, self.senders[sender].request("message", &json!({"text": text}))));
        }
        for (sender, id) in asked {
            let ack = self.senders[sender].answer(id).await;
            assert_eq!(ack["ok"], true, "{ack}");
        }
        self.last.post("/rooms/lobby/messages", &json!({"text": THE_END})).await.expect(201);
        (1..=count as u64 + 1).collect()
    }
}
