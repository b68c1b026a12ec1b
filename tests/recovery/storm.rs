//! Fifty clients drop and reconnect continuously under load: over all its connections each receives every message once and in order, because
//! messages that are sent during a replay are delivered after it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Socket, TestServer, TestUser, with_timeout};

const CLIENTS: usize = 50;
const SENDERS: usize = 4;
/// Every fifth client also sends messages, without acks.
const SENDING_CLIENTS: usize = 5;
/// How often each client reconnects.
const RECONNECTS: usize = 8;
/// The most messages of the senders. With the messages of the clients there are less than the 500 that a recovery delivers, so that
/// every client recovers all of them, however long its reconnect takes.
const SENT: u64 = 400;

/// What one client received on all its connections.
struct ClientLog {
    name: String,
    /// `seq` and text, in the order of arrival.
    received: Vec<(u64, String)>,
    /// The last offset.
    offset: Option<String>,
    /// How often the server recovered the session.
    recovered: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_reconnect_under_load_receive_every_message_once_and_in_order() {
    let server = TestServer::start().await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut users = Vec::new();
    for n in 0..CLIENTS {
        users.push(server.user(&format!("client{n}")).await);
    }
    // All clients connect before the first message.
    let sockets = join_all(users.iter().map(TestUser::connect)).await;
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        let socket = server.user(&format!("sender{n}")).await.connect().await;
        senders.push(tokio::spawn(send(socket, Arc::clone(&stop), Arc::clone(&sent))));
    }
    let clients = users.iter().zip(sockets).enumerate();
    let clients =
        clients.map(|(n, (user, socket))| tokio::spawn(reconnect_repeatedly(user.clone(), socket, n)));
    let outcomes = join_all(clients.collect::<Vec<_>>()).await;
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        with_timeout("a sender to finish", sender).await.expect("senders fail only by an assertion");
    }

    let stored: BTreeMap<u64, (String, String)> =
        users[0].read_history("lobby").await.iter().map(parse).collect();
    assert!(stored.len() > 100, "only {} messages: this was no load", stored.len());
    let last = *stored.keys().next_back().expect("messages");
    let mut recovered = 0;
    for outcome in outcomes {
        let (mut log, socket, user) = outcome.expect("clients fail only by an assertion");
        log.receive_rest(socket, &user, &stored, last).await;
        recovered += log.recovered;
    }
    assert_eq!(recovered, CLIENTS * (RECONNECTS + 1), "some sessions were not recovered");
}

/// Receives some messages, sends one without an ack, drops and reconnects; repeatedly.
async fn reconnect_repeatedly(user: TestUser, mut socket: Socket, n: usize) -> (ClientLog, Socket, TestUser) {
    let mut log = ClientLog { name: user.name.clone(), received: Vec::new(), offset: None, recovered: 0 };
    for round in 0..RECONNECTS {
        // Some clients drop in the middle of a replay.
        for _ in 0..(n * 7 + round * 3) % 23 {
            let message = socket.next("message").await;
            log.push(&message);
        }
        if n.is_multiple_of(SENDING_CLIENTS) {
            socket.emit("message", &json!({"text": format!("{}/{round}", user.name)}));
        }
        socket = log.reconnect(socket, &user).await;
    }
    (log, socket, user)
}

impl ClientLog {
    fn push(&mut self, message: &Value) {
        let (seq, (_, text)) = parse(message);
        self.received.push((seq, text));
    }

    /// Drops the connection with its unread messages, and reconnects with the offset that the official client would send.
    async fn reconnect(&mut self, socket: Socket, user: &TestUser) -> Socket {
        let pid = socket.pid.clone();
        // A connection without events does not change the offset.
        self.offset = socket.offset.clone().or(self.offset.take());
        drop(socket);
        let auth = json!({"pid": pid, "offset": self.offset});
        let reconnected = user.connect_patiently(user.handshake().auth(auth)).await;
        let reconnected = reconnected.unwrap_or_else(|why| panic!("{}: {why:?}", self.name));
        self.recovered += usize::from(reconnected.pid == pid);
        reconnected
    }

    /// Receives up to the last message, reconnects once more, when nothing is missing, and compares with the stored messages.
    async fn receive_rest(
        &mut self,
        mut socket: Socket,
        user: &TestUser,
        stored: &BTreeMap<u64, (String, String)>,
        last: u64,
    ) {
        let expected: Vec<(u64, String)> = stored
            .iter()
            .filter(|(_, (from, _))| *from != self.name)
            .map(|(seq, (_, text))| (*seq, text.clone()))
            .collect();
        let end = expected.last().map_or(last, |(seq, _)| *seq);
        while self.received.last().is_none_or(|(seq, _)| *seq < end) {
            let message = socket.next("message").await;
            self.push(&message);
        }
        socket.clear();
        let mut socket = self.reconnect(socket, user).await;
        // A fence: a duplicate would arrive before the ack of this request.
        socket.receive_pending().await;
        // Messages without acks may be stored after the history was read. Each arrives once, in order.
        let more: Vec<_> = socket.received.iter().map(parse).collect();
        let again: Vec<_> = more.iter().filter(|(seq, _)| *seq <= last).collect();
        let repeated: Vec<_> = more.windows(2).filter(|pair| pair[1].0 <= pair[0].0).collect();
        assert!(repeated.is_empty(), "{} received duplicates or late messages: {repeated:?}", self.name);
        let backward: Vec<_> = self.received.windows(2).filter(|pair| pair[1].0 <= pair[0].0).collect();
        assert!(backward.is_empty(), "{} received duplicates or late messages: {backward:?}", self.name);
        let lost: Vec<&(u64, String)> = expected.iter().filter(|one| !self.received.contains(one)).collect();
        assert!(lost.is_empty(), "{} did not receive {lost:?}", self.name);
        assert_eq!(self.received, expected, "{}", self.name);
        assert!(again.is_empty(), "{} received again: {again:?}", self.name);
    }
}

/// Sends as fast as the rate limit of one socket allows, with an ack for each message.
async fn send(mut socket: Socket, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let n = sent.fetch_add(1, Ordering::Relaxed);
        if n >= SENT {
            return;
        }
        let ack = socket.emit_with_ack("message", &json!({"text": format!("message {n}")})).await;
        if let Some(wait) = ack["retryAfter"].as_f64() {
            tokio::time::sleep(std::time::Duration::from_secs_f64(wait)).await;
        } else {
            assert_eq!(ack["ok"], true, "{ack}");
        }
        socket.clear();
    }
}

/// The `seq`, author and text of a message.
fn parse(message: &Value) -> (u64, (String, String)) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (message["seq"].as_u64().unwrap_or_default(), (text(&message["from"]), text(&message["data"]["text"])))
}
