//! People who talk whatever happens: two rooms, some who speak and some who listen, all of them coming back as often as they must.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    checker::{Room, Seen},
    support::{Socket, TestServer, TestUser},
};

const ROOMS: [&str; 2] = ["lobby", "vault"];

/// How long people try before they say that it does not work.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Before somebody who was not let in or not answered tries again.
const PAUSE: Duration = Duration::from_millis(100);

/// How long somebody waits for an answer before they come in again.
const SILENCE: Duration = Duration::from_secs(8);

/// See the module.
pub struct People {
    /// How many messages were acked.
    acks: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Spoken>>,
    listeners: Vec<JoinHandle<Received>>,
}

/// What one who speaks can tell.
#[derive(Default)]
struct Spoken {
    sent: Vec<(&'static str, String)>,
    acked: Vec<(&'static str, Seen)>,
}

/// What one who listens can tell.
#[derive(Default)]
struct Received {
    name: String,
    /// Per room, every message known by any road.
    known: HashMap<&'static str, BTreeMap<u64, Seen>>,
    /// Per room and connection, what arrived live.
    live: HashMap<&'static str, Vec<Vec<Seen>>>,
}

impl People {
    /// Everybody is in both rooms of a new split system and begins to talk.
    pub async fn gather() -> (TestServer, Self) {
        let server = TestServer::start_split().await;
        let names = ["alice", "bob", "carol", "dave", "erin", "frank"];
        let mut users = Vec::new();
        for name in names {
            users.push(server.user(name).await);
        }
        users[0].create_room("vault", true).await;
        for member in &names[1..] {
            users[0].add_member(member, "vault").await.expect(200);
        }
        let listeners = users.split_off(4);
        let (acks, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let speak = |user| tokio::spawn(speak(user, acks.clone(), is_over.clone()));
        let senders = users.into_iter().map(speak).collect();
        let listen = |user| tokio::spawn(listen(user, is_over.clone()));
        let listeners = listeners.into_iter().map(listen).collect();
        (server, Self { acks, is_over, senders, listeners })
    }

    /// Waits until so many more messages were acked.
    pub async fn talk(&self, more: usize) {
        let until = self.acks.load(Ordering::Relaxed) + more;
        let enough = async {
            while self.acks.load(Ordering::Relaxed) < until {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(TIMEOUT, enough).await.unwrap_or_else(|_| panic!("nobody is answered any more"));
    }

    /// Everybody comes to an end, and wants no fault found.
    pub async fn agree(self, server: &TestServer) {
        self.is_over.store(true, Ordering::Relaxed);
        let (mut spoken, mut received) = (Vec::new(), Vec::new());
        for sender in self.senders {
            spoken.push(sender.await.expect("speakers fail only by an assertion"));
        }
        for listener in self.listeners {
            received.push(listener.await.expect("listeners fail only by an assertion"));
        }
        let reader = server.user_on_another_device("alice").await;
        for name in ROOMS {
            let here = |(room, seen): &(&str, Seen)| (*room == name).then(|| seen.clone());
            let stored: Vec<Seen> = reader.read_history(name).await.iter().map(Seen::of).collect();
            let room = Room {
                sent: spoken
                    .iter()
                    .flat_map(|one| &one.sent)
                    .map(|(_, text)| text.clone())
                    .collect::<HashSet<_>>(),
                live: received.iter().filter_map(|one| one.live.get(name)).flatten().cloned().collect(),
                stored,
                acked: spoken.iter().flat_map(|one| one.acked.iter().filter_map(here)).collect(),
            };
            assert_eq!(room.faults(), Vec::<String>::new(), "in {name}");
            assert!(!room.acked.is_empty(), "nothing was said in {name}");
            for one in &received {
                let known: Vec<&Seen> = one.known.get(name).into_iter().flat_map(BTreeMap::values).collect();
                assert_eq!(
                    known,
                    room.stored.iter().collect::<Vec<_>>(),
                    "{} missed something in {name}",
                    one.name
                );
            }
        }
    }
}

/// A socket of somebody, however often they must try.
async fn connect(user: &TestUser) -> Socket {
    let connected = async {
        loop {
            if let Ok(socket) = user.try_connect(user.handshake()).await {
                return socket;
            }
            sleep(PAUSE).await;
        }
    };
    timeout(TIMEOUT, connected).await.unwrap_or_else(|_| panic!("{} is not let in any more", user.name))
}

/// Says one thing after the other, each until it is acked.
async fn speak(user: TestUser, acks: Arc<AtomicUsize>, is_over: Arc<AtomicBool>) -> Spoken {
    let mut spoken = Spoken::default();
    let mut socket = connects(&user).await;
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let (room, text) = (ROOMS[number % 2], format!("{}/{number}", user.name));
        spoken.sent.push((room, text.clone()));
        let sent = async {
            loop {
                let id = socket.request("message", &json!({"room": room, "text": text, "clientId": text}));
                // A node that hangs does not end its connections; clients find out by its silence.
                match timeout(SILENCE, socket.try_ack(id)).await.unwrap_or_default() {
                    Some(answer) if answer["ok"] == true => return seen(&answer, text),
                    Some(answer) => {
                        let code = answer["code"].as_str().unwrap_or_default();
                        assert!(["unavailable", "rate_limited"].contains(&code), "{text}: {answer}");
                        sleep(PAUSE).await;
                    }
                    None => socket = connects(&user).await,
                }
            }
        };
        let sent = timeout(TIMEOUT, sent).await;
        spoken.acked.push((room, sent.unwrap_or_else(|_| panic!("{} is not answered any more", user.name))));
        acks.fetch_add(1, Ordering::Relaxed);
        // Slower than the limit of one socket.
        sleep(Duration::from_millis(110)).await;
    }
    spoken
}

fn seen(answer: &Value, text: String) -> Seen {
    let (seq, id) = (answer["seq"].as_u64(), answer["id"].as_str());
    Seen { seq: seq.expect("an ack has a place"), id: id.expect("an ack has an id").to_owned(), text }
}

/// Listens, and asks after every drop for what came meanwhile.
async fn listen(user: TestUser, is_over: Arc<AtomicBool>) -> Received {
    let mut received = Received { name: user.name.clone(), ..Received::default() };
    loop {
        // Read before: what is said when it is not over yet is asked for below.
        let is_last = is_over.load(Ordering::Relaxed);
        let mut socket = connects(&user).await;
        if !received.catches_up(&mut socket, is_last).await {
            continue;
        }
        if is_last {
            return received;
        }
        while !is_over.load(Ordering::Relaxed) && socket.is_open_for(Duration::from_millis(200)).await {}
        for room in ROOMS {
            let live: Vec<Seen> =
                socket.received.iter().filter(|message| message["room"] == room).map(Seen::of).collect();
            received.known.entry(room).or_default().extend(live.iter().map(|seen| (seen.seq, seen.clone())));
            received.live.entry(room).or_default().push(live);
        }
    }
}

impl Received {
    /// Asks each room for what came since the last message known; false when that was not answered. `all`: until there is no
    /// more.
    async fn catches_up(&mut self, socket: &mut Socket, all: bool) -> bool {
        for room in ROOMS {
            loop {
                let known = self.known.entry(room).or_default();
                let since = known.keys().next_back().copied().unwrap_or_default();
                let id = socket.request("join", &json!({"room": room, "since": since}));
                let answer = timeout(SILENCE, socket.try_ack(id)).await.unwrap_or_default();
                let Some(joined) = answer else { return false };
                if joined["ok"] != true {
                    return false;
                }
                let messages = joined["messages"].as_array().cloned().unwrap_or_default();
                known.extend(messages.iter().map(Seen::of).map(|seen| (seen.seq, seen)));
                let last = known.keys().next_back().copied().unwrap_or_default();
                if !all || Some(last) >= joined["head"].as_u64() {
                    break;
                }
            }
        }
        true
    }
}
