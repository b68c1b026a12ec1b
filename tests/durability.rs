//! An ack means stored: the process is killed repeatedly under load, and [`crate::checker`] finds no message lost, duplicated, reordered or
//! invented. Every sender resends its unacked messages, as a conformant client does.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    checker::{Room, Seen},
    support::{Socket, TestServer, TestUser, scale, with_timeout},
};

const ROOMS: [&str; 2] = ["lobby", "vault"];
/// Below the burst of one connection, so that no message is refused and resent out of order.
const PER_ROUND: usize = 16;

/// The number of kills.
fn rounds() -> usize {
    scale(6, 40)
}

/// A user that sends, with a log of its messages.
struct Sender {
    user: TestUser,
    /// The number of messages that were ever sent.
    count: usize,
    /// Sent and not acked yet, in order: room and text, which is also the `clientId`.
    open: VecDeque<(&'static str, String)>,
    /// Acked: the room and the content of the ack.
    acked: Vec<(&'static str, Seen)>,
}

/// A user that only receives, over many connections.
struct Listener {
    user: TestUser,
    /// By room, all messages, whether they arrived live or in a response.
    history: HashMap<&'static str, BTreeMap<u64, Seen>>,
    /// By room and connection, the live messages.
    live: HashMap<&'static str, Vec<Vec<Seen>>>,
}

/// Counts the acks of all senders and signals when enough have arrived.
#[derive(Default)]
struct Tally {
    count: AtomicUsize,
    more: Notify,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_survive_a_kill_at_any_time() {
    let mut server = TestServer::start().await;
    let mut senders = Vec::new();
    for name in ["alice", "bob", "carol", "dave"] {
        let user = server.user(name).await;
        senders.push(Sender { user, count: 0, open: VecDeque::new(), acked: Vec::new() });
    }
    let mut listener =
        Listener { user: server.user("erin").await, history: HashMap::new(), live: HashMap::new() };
    create_vault(&senders, &listener).await;

    for round in 0..rounds() {
        let socket = listener.reconnect().await;
        let tally = Arc::new(Tally::default());
        let mut sending = Vec::new();
        for sender in senders {
            let socket = sender.user.connect().await;
            sending.push(tokio::spawn(sender.send(socket, Arc::clone(&tally))));
        }
        // Some rounds are killed before the first ack, some at the last ones.
        with_timeout("enough acks", tally.reaches(round * 13 % (PER_ROUND * 4 - 4))).await;
        server.system.kill();
        let all = join_all(sending).await;
        senders = all.into_iter().map(|sender| sender.expect("senders fail only by an assertion")).collect();
        listener.receive_pending(socket).await;
        server.system.restart().await;
    }
    for sender in &mut senders {
        sender.resend_until_acked().await;
    }
    let socket = listener.reconnect().await;
    listener.receive_pending(socket).await;
    for room in ROOMS {
        check(room, &senders, &listener).await;
    }
}

/// Creates the private room and adds all users.
async fn create_vault(senders: &[Sender], listener: &Listener) {
    senders[0].user.create_room("vault", true).await;
    let members = senders[1..].iter().map(|sender| &sender.user).chain([&listener.user]);
    for member in members {
        let added = senders[0].user.add_member(&member.name, "vault").await;
        assert!((200..300).contains(&added.status), "{added:?}");
    }
}

/// Collects the observations of one room and requires that the checker finds no fault.
async fn check(name: &'static str, senders: &[Sender], listener: &Listener) {
    let stored = listener.user.read_history(name).await;
    let here = |(room, seen): &(&str, Seen)| (*room == name).then(|| seen.clone());
    let acked: Vec<Seen> = senders.iter().flat_map(|sender| sender.acked.iter().filter_map(here)).collect();
    let room = Room {
        sent: senders.iter().flat_map(|sender| (1..=sender.count).map(|n| sender.text(n))).collect(),
        live: listener.live.get(name).cloned().unwrap_or_default(),
        stored: stored.iter().map(Seen::of).collect(),
        acked,
    };
    assert_eq!(room.faults(), Vec::<String>::new(), "in {name}");
    assert!(room.acked.len() > rounds() * 10, "only {} acks in {name}: this was no load", room.acked.len());
    let history: Vec<&Seen> = listener.history.get(name).into_iter().flat_map(BTreeMap::values).collect();
    assert_eq!(
        history,
        room.stored.iter().collect::<Vec<_>>(),
        "{} missed something in {name}",
        listener.user.name
    );
}

impl Sender {
    fn text(&self, number: usize) -> String {
        format!("{}/{number}", self.user.name)
    }

    /// One connection: resends the unacked messages, sends further ones, and receives acks until the connection ends.
    async fn send(mut self, mut socket: Socket, tally: Arc<Tally>) -> Self {
        self.check_earlier_ack(&mut socket).await;
        while self.open.len() < PER_ROUND {
            self.count += 1;
            let room = ROOMS[self.count % ROOMS.len()];
            self.open.push_back((room, self.text(self.count)));
        }
        self.send_open(&mut socket, &tally).await;
        self
    }

    /// Sends all unacked messages at once and receives the acks in order, until the connection ends.
    async fn send_open(&mut self, socket: &mut Socket, tally: &Tally) {
        let ids: Vec<u64> =
            self.open.iter().map(|(room, text)| socket.request("message", &post(room, text))).collect();
        for id in ids {
            let Some(ack) = socket.try_ack(id).await else { return };
            let (room, text) = self.open.pop_front().expect("one ack for each message");
            self.acked.push((room, parse_ack(&ack, text)));
            tally.add_one();
        }
    }

    /// The same `clientId` after a restart returns the first result.
    async fn check_earlier_ack(&self, socket: &mut Socket) {
        let Some((room, before)) = self.acked.get(self.acked.len() / 2) else { return };
        // The process may be killed before it responds; then there is nothing to compare.
        let id = socket.request("message", &post(room, &before.text));
        if let Some(ack) = socket.try_ack(id).await {
            assert_eq!(parse_ack(&ack, before.text.clone()), *before);
        }
    }

    async fn resend_until_acked(&mut self) {
        let mut socket = self.user.connect().await;
        self.send_open(&mut socket, &Tally::default()).await;
        assert!(self.open.is_empty(), "{} received no ack for {:?}", self.user.name, self.open);
    }
}

impl Listener {
    /// Connects and requests the messages of each room after the last received one.
    async fn reconnect(&mut self) -> Socket {
        let mut socket = self.user.connect().await;
        for room in ROOMS {
            let history = self.history.entry(room).or_default();
            let since = history.keys().next_back().copied().unwrap_or_default();
            let joined = socket.emit_with_ack("join", &json!({"room": room, "since": since})).await;
            assert_eq!(joined["ok"], true, "{joined}");
            for message in joined["messages"].as_array().into_iter().flatten() {
                let seen = Seen::of(message);
                assert!(seen.seq > since, "requested messages after {since}, received {seen:?}");
                history.insert(seen.seq, seen);
            }
        }
        socket
    }

    /// Records the remaining messages of a connection that ended, or that is about to be dropped.
    async fn receive_pending(&mut self, mut socket: Socket) {
        socket.receive_pending().await;
        for room in ROOMS {
            let live: Vec<Seen> =
                socket.received.iter().filter(|message| message["room"] == room).map(Seen::of).collect();
            self.history.entry(room).or_default().extend(live.iter().map(|seen| (seen.seq, seen.clone())));
            self.live.entry(room).or_default().push(live);
        }
    }
}

impl Tally {
    fn add_one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.more.notify_one();
    }

    async fn reaches(&self, enough: usize) {
        while self.count.load(Ordering::Relaxed) < enough {
            self.more.notified().await;
        }
    }
}

fn post(room: &str, text: &str) -> Value {
    json!({"room": room, "text": text, "clientId": text})
}

fn parse_ack(ack: &Value, text: String) -> Seen {
    assert_eq!(ack["ok"], true, "{text}: {ack}");
    let seq = ack["seq"].as_u64().expect("an ack has a seq");
    Seen { seq, id: ack["id"].as_str().expect("an ack has an id").to_owned(), text }
}
