//! Continuous traffic during faults: senders and listeners in two rooms, which reconnect as often as necessary.

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

/// How long a client retries before the test fails.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client waits for an ack before it reconnects.
const SILENCE: Duration = Duration::from_secs(8);

/// The running clients.
pub struct Traffic {
    /// The number of acked messages.
    acks: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    senders: Vec<JoinHandle<SentMessages>>,
    listeners: Vec<JoinHandle<ReceivedMessages>>,
}

/// The messages of one sender.
#[derive(Default)]
struct SentMessages {
    sent: Vec<(&'static str, String)>,
    acked: Vec<(&'static str, Seen)>,
}

/// The messages that one listener received.
#[derive(Default)]
struct ReceivedMessages {
    name: String,
    /// All messages by room and `seq`, whether they arrived live or in a response.
    history: HashMap<&'static str, BTreeMap<u64, Seen>>,
    /// By room, the live messages of every connection.
    live: HashMap<&'static str, Vec<Vec<Seen>>>,
}

impl Traffic {
    /// Starts a split system whose clients are members of both rooms, and starts to send.
    pub async fn start() -> (TestServer, Self) {
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
        let send = |user| tokio::spawn(send(user, acks.clone(), is_over.clone()));
        let senders = users.into_iter().map(send).collect();
        let listen = |user| tokio::spawn(listen(user, is_over.clone()));
        let listeners = listeners.into_iter().map(listen).collect();
        (server, Self { acks, is_over, senders, listeners })
    }

    /// Waits until `more` further messages were acked.
    pub async fn wait_for_acks(&self, more: usize) {
        let until = self.acks.load(Ordering::Relaxed) + more;
        let enough = async {
            while self.acks.load(Ordering::Relaxed) < until {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(TIMEOUT, enough).await.unwrap_or_else(|_| panic!("no message is acked"));
    }

    /// Stops all clients and checks that every room has no fault and that every listener has received every message.
    pub async fn verify(self, server: &TestServer) {
        self.is_over.store(true, Ordering::Relaxed);
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for sender in self.senders {
            sent.push(sender.await.expect("senders fail only by an assertion"));
        }
        for listener in self.listeners {
            received.push(listener.await.expect("listeners fail only by an assertion"));
        }
        let reader = server.user_on_another_device("alice").await;
        for name in ROOMS {
            let here = |(room, seen): &(&str, Seen)| (*room == name).then(|| seen.clone());
            let stored: Vec<Seen> = reader.read_history(name).await.iter().map(Seen::of).collect();
            let room = Room {
                sent: sent
                    .iter()
                    .flat_map(|one| &one.sent)
                    .map(|(_, text)| text.clone())
                    .collect::<HashSet<_>>(),
                live: received.iter().filter_map(|one| one.live.get(name)).flatten().cloned().collect(),
                stored,
                acked: sent.iter().flat_map(|one| one.acked.iter().filter_map(here)).collect(),
            };
            assert_eq!(room.faults(), Vec::<String>::new(), "in {name}");
            assert!(!room.acked.is_empty(), "no message was acked in {name}");
            for one in &received {
                let history: Vec<&Seen> =
                    one.history.get(name).into_iter().flat_map(BTreeMap::values).collect();
                assert_eq!(
                    history,
                    room.stored.iter().collect::<Vec<_>>(),
                    "{} missed something in {name}",
                    one.name
                );
            }
        }
    }
}

/// Connects, and retries until it succeeds.
async fn connect(user: &TestUser) -> Socket {
    let connected = async {
        loop {
            if let Ok(socket) = user.try_connect(user.handshake()).await {
                return socket;
            }
            sleep(PAUSE).await;
        }
    };
    timeout(TIMEOUT, connected).await.unwrap_or_else(|_| panic!("{} cannot connect", user.name))
}

/// Sends messages one after the other; each is resent until it is acked.
async fn send(user: TestUser, acks: Arc<AtomicUsize>, is_over: Arc<AtomicBool>) -> SentMessages {
    let mut log = SentMessages::default();
    let mut socket = connect(&user).await;
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let (room, text) = (ROOMS[number % 2], format!("{}/{number}", user.name));
        log.sent.push((room, text.clone()));
        let sent = async {
            loop {
                let id = socket.request("message", &json!({"room": room, "text": text, "clientId": text}));
                // A suspended node does not close its connections; a client detects it by the missing ack.
                match timeout(SILENCE, socket.try_ack(id)).await.unwrap_or_default() {
                    Some(answer) if answer["ok"] == true => return seen(&answer, text),
                    Some(answer) => {
                        let code = answer["code"].as_str().unwrap_or_default();
                        assert!(["unavailable", "rate_limited"].contains(&code), "{text}: {answer}");
                        sleep(PAUSE).await;
                    }
                    None => socket = connect(&user).await,
                }
            }
        };
        let sent = timeout(TIMEOUT, sent).await;
        log.acked.push((room, sent.unwrap_or_else(|_| panic!("{} receives no ack", user.name))));
        acks.fetch_add(1, Ordering::Relaxed);
        // Below the rate limit of one socket.
        sleep(Duration::from_millis(110)).await;
    }
    log
}

fn seen(answer: &Value, text: String) -> Seen {
    let (seq, id) = (answer["seq"].as_u64(), answer["id"].as_str());
    Seen { seq: seq.expect("an ack has a seq"), id: id.expect("an ack has an id").to_owned(), text }
}

/// Receives messages, reconnects after every drop and then requests the missed messages.
async fn listen(user: TestUser, is_over: Arc<AtomicBool>) -> ReceivedMessages {
    let mut received = ReceivedMessages { name: user.name.clone(), ..ReceivedMessages::default() };
    loop {
        // Read before the requests below: the last requests then include every message that was sent.
        let is_last = is_over.load(Ordering::Relaxed);
        let mut socket = connect(&user).await;
        if !received.catch_up(&mut socket, is_last).await {
            continue;
        }
        if is_last {
            return received;
        }
        while !is_over.load(Ordering::Relaxed) && socket.is_open_for(Duration::from_millis(200)).await {}
        for room in ROOMS {
            let live: Vec<Seen> =
                socket.received.iter().filter(|message| message["room"] == room).map(Seen::of).collect();
            received
                .history
                .entry(room)
                .or_default()
                .extend(live.iter().map(|seen| (seen.seq, seen.clone())));
            received.live.entry(room).or_default().push(live);
        }
    }
}

impl ReceivedMessages {
    /// Requests the messages of each room after the last received one; with `all` until the head is reached. Returns false when a
    /// request is not acked.
    async fn catch_up(&mut self, socket: &mut Socket, all: bool) -> bool {
        for room in ROOMS {
            loop {
                let history = self.history.entry(room).or_default();
                let since = history.keys().next_back().copied().unwrap_or_default();
                let id = socket.request("join", &json!({"room": room, "since": since}));
                let answer = timeout(SILENCE, socket.try_ack(id)).await.unwrap_or_default();
                let Some(joined) = answer else { return false };
                if joined["ok"] != true {
                    return false;
                }
                let messages = joined["messages"].as_array().cloned().unwrap_or_default();
                history.extend(messages.iter().map(Seen::of).map(|seen| (seen.seq, seen)));
                let last = history.keys().next_back().copied().unwrap_or_default();
                if !all || Some(last) >= joined["head"].as_u64() {
                    break;
                }
            }
        }
        true
    }
}
