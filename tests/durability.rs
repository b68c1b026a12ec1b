//! An ack means stored: the process is killed under load, again and again, and the [`crate::checker`] finds nothing
//! lost, doubled, reordered or invented. Everybody then repeats what was not answered, as a good client would.

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
    support::{Socket, TestServer, TestUser, with_timeout},
};

const ROUNDS: usize = 20;
const ROOMS: [&str; 2] = ["lobby", "vault"];
/// Under the burst that one connection may send, so that no message is refused and sent again out of order.
const PER_ROUND: usize = 16;

/// Somebody who sends and keeps account.
struct Sender {
    user: TestUser,
    /// How many were ever sent.
    count: usize,
    /// Sent and not answered yet, in order: room and text, which is the `clientId` too.
    open: VecDeque<(&'static str, String)>,
    /// Answered: room and what the ack said.
    acked: Vec<(&'static str, Seen)>,
}

/// Somebody who only listens, over many connections.
struct Listener {
    user: TestUser,
    /// Per room, every message known by any road.
    known: HashMap<&'static str, BTreeMap<u64, Seen>>,
    /// Per room and connection, what arrived live.
    live: HashMap<&'static str, Vec<Vec<Seen>>>,
}

/// Counts acks of all senders and says when enough have come.
#[derive(Default)]
struct Tally {
    count: AtomicUsize,
    more: Notify,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_survives_being_killed_at_any_moment() {
    let mut server = TestServer::start().await;
    let mut senders = Vec::new();
    for name in ["alice", "bob", "carol", "dave"] {
        let user = server.user(name).await;
        senders.push(Sender { user, count: 0, open: VecDeque::new(), acked: Vec::new() });
    }
    let mut listener =
        Listener { user: server.user("erin").await, known: HashMap::new(), live: HashMap::new() };
    found_the_vault(&senders, &listener).await;

    for round in 0..ROUNDS {
        let ear = listener.reconnect().await;
        let tally = Arc::new(Tally::default());
        let mut talking = Vec::new();
        for sender in senders {
            let socket = sender.user.connect().await;
            talking.push(tokio::spawn(sender.talks(socket, Arc::clone(&tally))));
        }
        // Some rounds die before the first ack, some among the last.
        with_timeout("enough acks", tally.reaches(round * 13 % (PER_ROUND * 4 - 4))).await;
        server.system.kill();
        let all = join_all(talking).await;
        senders =
            all.into_iter().map(|sender| sender.expect("a sender fails only by an assertion")).collect();
        listener.receive_pending(ear).await;
        server.system.restart().await;
    }
    for sender in &mut senders {
        sender.repeats_until_answered().await;
    }
    let ear = listener.reconnect().await;
    listener.receive_pending(ear).await;
    for room in ROOMS {
        judge(room, &senders, &listener).await;
    }
}

/// Creates the private room and lets everybody in.
async fn found_the_vault(senders: &[Sender], listener: &Listener) {
    senders[0].user.create_room("vault", true).await;
    let members = senders[1..].iter().map(|sender| &sender.user).chain([&listener.user]);
    for member in members {
        let added = senders[0].user.add_member(&member.name, "vault").await;
        assert!((200..300).contains(&added.status), "{added:?}");
    }
}

/// Puts everything together that concerns one room, and wants no fault found.
async fn judge(name: &'static str, senders: &[Sender], listener: &Listener) {
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
    assert!(room.acked.len() > ROUNDS * 10, "only {} acks in {name}: this was no load", room.acked.len());
    let known: Vec<&Seen> = listener.known.get(name).into_iter().flat_map(BTreeMap::values).collect();
    assert_eq!(
        known,
        room.stored.iter().collect::<Vec<_>>(),
        "{} missed something in {name}",
        listener.user.name
    );
}

impl Sender {
    fn text(&self, number: usize) -> String {
        format!("{}/{number}", self.user.name)
    }

    /// One connection: repeats what was never answered, sends more, and takes answers until there are no more.
    async fn talks(mut self, mut socket: Socket, tally: Arc<Tally>) -> Self {
        self.checks_an_old_promise(&mut socket).await;
        while self.open.len() < PER_ROUND {
            self.count += 1;
            let room = ROOMS[self.count % ROOMS.len()];
            self.open.push_back((room, self.text(self.count)));
        }
        self.sends_open(&mut socket, &tally).await;
        self
    }

    /// Sends everything open at once and takes the answers in order, until the connection ends.
    async fn sends_open(&mut self, socket: &mut Socket, tally: &Tally) {
        let ids: Vec<u64> =
            self.open.iter().map(|(room, text)| socket.request("message", &post(room, text))).collect();
        for id in ids {
            let Some(answer) = socket.try_ack(id).await else { return };
            let (room, text) = self.open.pop_front().expect("one answer for each");
            self.acked.push((room, promised(&answer, text)));
            tally.adds_one();
        }
    }

    /// The same `clientId` after a restart answers with the first result.
    async fn checks_an_old_promise(&self, socket: &mut Socket) {
        let Some((room, before)) = self.acked.get(self.acked.len() / 2) else { return };
        // The process may already be dying; then there is no answer to compare.
        let id = socket.request("message", &post(room, &before.text));
        if let Some(answer) = socket.try_ack(id).await {
            assert_eq!(promised(&answer, before.text.clone()), *before);
        }
    }

    async fn repeats_until_answered(&mut self) {
        let mut socket = self.user.connect().await;
        self.sends_open(&mut socket, &Tally::default()).await;
        assert!(self.open.is_empty(), "{} got no answer to {:?}", self.user.name, self.open);
    }
}

impl Listener {
    /// Connects and asks each room for what came since the last message known.
    async fn reconnect(&mut self) -> Socket {
        let mut socket = self.user.connect().await;
        for room in ROOMS {
            let known = self.known.entry(room).or_default();
            let since = known.keys().next_back().copied().unwrap_or_default();
            let joined = socket.emit_with_ack("join", &json!({"room": room, "since": since})).await;
            assert_eq!(joined["ok"], true, "{joined}");
            for message in joined["messages"].as_array().into_iter().flatten() {
                let seen = Seen::of(message);
                assert!(seen.seq > since, "asked for what came after {since}, got {seen:?}");
                known.insert(seen.seq, seen);
            }
        }
        socket
    }

    /// Takes in what is left on a connection that ended, or that is about to be dropped.
    async fn receive_pending(&mut self, mut socket: Socket) {
        socket.receive_pending().await;
        for room in ROOMS {
            let live: Vec<Seen> =
                socket.received.iter().filter(|message| message["room"] == room).map(Seen::of).collect();
            self.known.entry(room).or_default().extend(live.iter().map(|seen| (seen.seq, seen.clone())));
            self.live.entry(room).or_default().push(live);
        }
    }
}

impl Tally {
    fn adds_one(&self) {
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

fn promised(answer: &Value, text: String) -> Seen {
    assert_eq!(answer["ok"], true, "{text}: {answer}");
    let seq = answer["seq"].as_u64().expect("an ack has a place");
    Seen { seq, id: answer["id"].as_str().expect("an ack has an id").to_owned(), text }
}
