//! Fifty clients that drop and come back all the time, while many talk: over all its connections each hears everything once
//! and in order, for what is said during a replay waits for it.

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
/// Every so manieth client talks too, without waiting for the ack.
const TALKATIVE: usize = 5;
/// How often each client comes back.
const RETURNS: usize = 8;
/// How much the speakers say at most: with what the clients say less than the 500 that may be missed, so that whoever comes
/// back gets all of it however long that takes.
const SENT: u64 = 400;

/// What one client heard on all its connections together.
struct Witness {
    name: String,
    /// Place and text, in the order heard.
    received: Vec<(u64, String)>,
    /// Its place in the log.
    offset: Option<String>,
    /// How often it was told that nothing is missing.
    recovered: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_and_go_under_load_hear_everything_once_and_in_order() {
    let server = TestServer::start().await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut users = Vec::new();
    for n in 0..CLIENTS {
        users.push(server.user(&format!("client{n}")).await);
    }
    // Everybody is there before the first word.
    let sockets = join_all(users.iter().map(TestUser::connects)).await;
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        let socket = server.user(&format!("speaker{n}")).await.connect().await;
        senders.push(tokio::spawn(speak(socket, Arc::clone(&stop), Arc::clone(&sent))));
    }
    let clients = users.iter().zip(sockets).enumerate();
    let clients = clients.map(|(n, (user, socket))| tokio::spawn(come_and_go(user.clone(), socket, n)));
    let restless = join_all(clients.collect::<Vec<_>>()).await;
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        with_timeout("a speaker to finish", sender).await.expect("speakers fail only by an assertion");
    }

    let stored: BTreeMap<u64, (String, String)> =
        users[0].read_history("lobby").await.iter().map(place).collect();
    assert!(stored.len() > 100, "only {} messages: this was no load", stored.len());
    let last = *stored.keys().next_back().expect("many");
    let mut recovered = 0;
    for outcome in restless {
        let (mut witness, socket, user) = outcome.expect("clients fail only by an assertion");
        witness.hears_the_rest(socket, &user, &stored, last).await;
        recovered += witness.recovered;
    }
    assert_eq!(recovered, CLIENTS * (RETURNS + 1), "some were told to start anew");
}

/// Listens a while, says something without waiting for the answer, drops, comes back; again and again.
async fn come_and_go(user: TestUser, mut socket: Socket, n: usize) -> (Witness, Socket, TestUser) {
    let mut witness = Witness { name: user.name.clone(), received: Vec::new(), offset: None, recovered: 0 };
    for round in 0..RETURNS {
        // Some drop in the middle of a replay.
        for _ in 0..(n * 7 + round * 3) % 23 {
            let message = socket.next("message").await;
            witness.receive_message(&message);
        }
        if n.is_multiple_of(TALKATIVE) {
            socket.emit("message", &json!({"text": format!("{}/{round}", user.name)}));
        }
        socket = witness.returns(socket, &user).await;
    }
    (witness, socket, user)
}

impl Witness {
    fn hears(&mut self, message: &Value) {
        let (seq, (_, text)) = place(message);
        self.received.push((seq, text));
    }

    /// Drops the connection, with whatever has arrived on it unseen, and comes back with what the official client would show.
    async fn returns(&mut self, socket: Socket, user: &TestUser) -> Socket {
        let pid = socket.pid.clone();
        // A connection on which no event was heard changes nothing about the place.
        self.offset = socket.offset.clone().or(self.offset.take());
        drop(socket);
        let auth = json!({"pid": pid, "offset": self.offset});
        let back = user.try_connect(user.handshake().auth(auth)).await;
        let back = back.unwrap_or_else(|why| panic!("{}: {why:?}", self.name));
        self.recovered += usize::from(back.pid == pid);
        back
    }

    /// Hears up to the end, comes back a last time, when there is nothing to tell, and compares with what is stored.
    async fn hears_the_rest(
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
            self.receive_message(&message);
        }
        socket.clear();
        let mut socket = self.returns(socket, user).await;
        // A fence: what would come twice has come by the time of this answer.
        socket.receive_pending().await;
        // Messages that were sent without waiting for their acks may be stored after everything was read. Each comes once, in order.
        let more: Vec<_> = socket.received.iter().map(place).collect();
        let again: Vec<_> = more.iter().filter(|(seq, _)| *seq <= last).collect();
        let repeated: Vec<_> = more.windows(2).filter(|pair| pair[1].0 <= pair[0].0).collect();
        assert!(repeated.is_empty(), "{} received something twice or late: {repeated:?}", self.name);
        let backward: Vec<_> = self.received.windows(2).filter(|pair| pair[1].0 <= pair[0].0).collect();
        assert!(backward.is_empty(), "{} heard something twice or late: {backward:?}", self.name);
        let lost: Vec<&(u64, String)> = expected.iter().filter(|one| !self.received.contains(one)).collect();
        assert!(lost.is_empty(), "{} never heard {lost:?}", self.name);
        assert_eq!(self.received, expected, "{}", self.name);
        assert!(again.is_empty(), "{} was told again what it knew: {again:?}", self.name);
    }
}

/// Talks as fast as one socket may, each message acked.
async fn speak(mut socket: Socket, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let n = sent.fetch_add(1, Ordering::Relaxed);
        if n >= SENT {
            return;
        }
        let ack = socket.emit_with_ack("message", &json!({"text": format!("said {n}")})).await;
        if let Some(wait) = ack["retryAfter"].as_f64() {
            tokio::time::sleep(std::time::Duration::from_secs_f64(wait)).await;
        } else {
            assert_eq!(ack["ok"], true, "{ack}");
        }
        socket.clear();
    }
}

/// A message's place, author and text.
fn place(message: &Value) -> (u64, (String, String)) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (message["seq"].as_u64().unwrap_or_default(), (text(&message["from"]), text(&message["data"]["text"])))
}
