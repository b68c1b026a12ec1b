//! The change log under crashes: members and properties of a room change while processes are killed and stores fail. All clients hold the
//! same state at the end: one that stays connected, one that recovers its connections, one that asks with `join`, and a fresh one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use crate::support::{Handshake, NODES, Request, RoomState, Socket, TestServer, TestUser, with_timeout};

const ROOM: &str = "den";

/// What a client does with a recovered connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// It relies on the events that recovery sends.
    Recovering,
    /// It sends `join` with its `rev` after every connect.
    Joining,
    /// Its connection never ends.
    Staying,
}

/// A client that keeps the state of the room.
struct Client {
    kind: Kind,
    user: TestUser,
    socket: Socket,
    state: RoomState,
    /// How often its session was recovered.
    recovered: usize,
    /// How often it had to load the room anew.
    resets: usize,
}

impl Client {
    async fn start(server: &TestServer, name: &str, kind: Kind) -> Self {
        let user = server.user(name).await;
        let mut socket = user.connect().await;
        socket.join(ROOM).await;
        let mut client = Self { kind, user, socket, state: RoomState::default(), recovered: 0, resets: 0 };
        client.catch_up().await;
        client
    }

    /// Applies everything that was sent until now. Reconnects when the connection has ended.
    async fn settle(&mut self) {
        loop {
            self.socket.receive_pending().await;
            self.apply_events().await;
            if !self.socket.has_ended() {
                return;
            }
            Box::pin(self.reconnect()).await;
        }
    }

    async fn apply_events(&mut self) {
        while self.socket.waiting("change", |_| true) > 0 {
            let change = self.socket.next("change").await;
            let after = change["after"].as_u64().expect("a number");
            if after > self.state.rev {
                Box::pin(self.catch_up()).await;
            } else {
                self.state.apply(&change);
            }
        }
    }

    async fn reconnect(&mut self) {
        assert_ne!(self.kind, Kind::Staying, "its node was not killed");
        let (pid, offset) = (self.socket.pid.clone(), self.socket.offset.clone());
        let auth = json!({"pid": pid, "offset": offset});
        self.socket = with_timeout("a reconnect", async {
            loop {
                let handshake = Handshake { auth: Some(auth.clone()), ..self.user.handshake() };
                match self.user.try_connect(handshake).await {
                    Ok(socket) => return socket,
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        })
        .await;
        let is_recovered = self.socket.pid == pid;
        self.recovered += usize::from(is_recovered);
        if !is_recovered || self.kind == Kind::Joining {
            self.catch_up().await;
        }
    }

    /// Loads the room anew, as of the change `rev` or later. Returns false when the connection ends.
    async fn load(&mut self, rev: u64) -> bool {
        while !self.socket.has_ended() {
            if let Some((members, private)) = listed(&self.user).await {
                self.state = RoomState { rev, members, settings: json!({"private": private}) };
                return true;
            }
            self.socket.receive_pending().await;
        }
        false
    }

    /// Asks for the changes after its own last one. Does nothing when the connection ends.
    async fn catch_up(&mut self) {
        loop {
            let join = json!({"room": ROOM, "rev": self.state.rev, "enter": false});
            let request = self.socket.request("join", &join);
            let Some(answer) = self.socket.try_ack(request).await else { return };
            if answer["code"] == "unavailable" {
                continue;
            }
            assert_eq!(answer["ok"], true, "{answer}");
            if answer["reset"] == true {
                self.resets += 1;
                if !self.load(answer["rev"].as_u64().expect("a number")).await {
                    return;
                }
                continue;
            }
            for change in answer["changes"].as_array().expect("a list") {
                self.state.apply(change);
            }
            self.state.rev = self.state.rev.max(answer["rev"].as_u64().expect("a number"));
            if answer["more"] == false {
                return;
            }
        }
    }
}

/// The members of the room and their roles, and whether it is private, as the server lists them. `None` while it does not answer.
async fn listed(user: &TestUser) -> Option<(BTreeMap<String, Value>, Value)> {
    let request = Request::get(&format!("/rooms/{ROOM}")).cookie(user.token());
    let answer = request.try_send(user.source, user.server).await.filter(|answer| answer.status == 200)?;
    let room = answer.json();
    let member =
        |member: &Value| (member["username"].as_str().expect("a name").to_owned(), member["role"].clone());
    let members = room["members"].as_array().expect("a list").iter().map(member).collect();
    Some((members, room["private"].clone()))
}

/// The number of people who act at random.
const PEOPLE: usize = 20;
/// The number of their acts, and of the faults meanwhile.
const ACTS: u64 = 1_000;
const FAULTS: u64 = IN_CLUSTER.len() as u64;

/// A fault of a part of the system.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    StopRedis,
    RestartRedis,
    StepDown,
}

/// The faults of a cluster, in their order. In one process each is a [`Fault::Kill`].
const IN_CLUSTER: [Fault; 8] = [
    Fault::Kill,
    Fault::StopRedis,
    Fault::Kill,
    Fault::RestartRedis,
    Fault::Kill,
    Fault::StepDown,
    Fault::Kill,
    Fault::StopRedis,
];

/// The people of the room.
struct People {
    /// People who enter, leave, and are added and removed.
    people: Vec<TestUser>,
    /// Members who stay. One of them can become the owner.
    observers: Vec<TestUser>,
    /// The number of acts that have begun.
    begun: AtomicU64,
}

/// A number that looks random, the same in every run.
fn random(seed: u64, number: u64) -> usize {
    let mut mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
    usize::try_from((mixed ^ (mixed >> 33)) >> 8).expect("56 bits")
}

impl People {
    /// Acts until all acts have begun.
    async fn act(self: Arc<Self>) {
        loop {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            if number >= ACTS {
                return;
            }
            Box::pin(self.act_once(number)).await;
        }
    }

    async fn act_once(&self, number: u64) {
        let pick = |seed| &self.people[random(seed, number) % PEOPLE];
        let (someone, other) = (pick(1), pick(2));
        let member = |user: &TestUser| format!("/rooms/{ROOM}/members/{}", user.name);
        let room = format!("/rooms/{ROOM}");
        let (by, request) = match random(3, number) % 10 {
            0..3 => (someone, Request::new("PUT", &member(someone))),
            3 => (someone, Request::new("DELETE", &member(someone))),
            4 | 5 => (self.owner().await, Request::new("PUT", &member(other))),
            6 => (self.owner().await, Request::new("DELETE", &member(other))),
            7 => {
                let private = random(4, number).is_multiple_of(2);
                (self.owner().await, Request::new("PATCH", &room).json(&json!({"private": private})))
            }
            _ => {
                let text = json!({"text": format!("message {number}"), "clientId": format!("id {number}")});
                (someone, Request::post(&format!("{room}/messages"), &text))
            }
        };
        with_timeout("the outcome of an act", async {
            loop {
                let request = request.clone().cookie(by.token());
                match request.try_send(by.source, by.server).await.map(|answer| answer.status) {
                    // The owner or the members have changed meanwhile, or a limit is reached.
                    Some(200 | 201 | 403 | 404 | 409 | 429) => return,
                    None | Some(500..) => sleep(Duration::from_millis(100)).await,
                    Some(status) => panic!("{status} is no answer to an act"),
                }
            }
        })
        .await;
    }

    /// The owner of the room. Any person while the server does not answer.
    async fn owner(&self) -> &TestUser {
        let found = listed(&self.observers[0]).await;
        let owner = found.and_then(|(members, _)| {
            let owner = members.into_iter().find(|(_, role)| role == "owner")?.0;
            self.people.iter().chain(&self.observers).find(|user| user.name == owner)
        });
        owner.unwrap_or(&self.people[0])
    }
}

/// Applies everything that a client receives until `is_over`.
async fn follow(mut client: Client, is_over: Arc<AtomicBool>) -> Client {
    while !is_over.load(Ordering::Relaxed) {
        Box::pin(client.settle()).await;
        sleep(Duration::from_millis(20)).await;
    }
    client
}

/// Injects a fault and ends it. Chat nodes other than `spared` are killed.
async fn inject(server: &mut TestServer, fault: Fault, nodes: &[usize], spared: Option<usize>, round: usize) {
    let killable: Vec<usize> = nodes.iter().copied().filter(|node| Some(*node) != spared).collect();
    match fault {
        Fault::Kill if nodes.is_empty() => {
            server.system.kill();
            server.system.restart().await;
        }
        Fault::Kill => {
            let node = killable[round / 2 % killable.len()];
            server.system.processes[node].kill();
            sleep(Duration::from_secs(1)).await;
            server.system.restart_process(node).await;
        }
        Fault::StopRedis => {
            let redis = &server.system.stores.as_ref().expect("a split system").redis;
            redis.pause();
            sleep(Duration::from_secs(5)).await;
            redis.resume();
        }
        Fault::RestartRedis => {
            let redis = &mut server.system.stores.as_mut().expect("a split system").redis;
            redis.kill();
            redis.restart();
        }
        Fault::StepDown => server.system.stores.as_ref().expect("a split system").mongo.step_down().await,
    }
    if !nodes.is_empty() {
        server.system.wait_until_ready().await;
    }
}

/// The index of the chat node of a socket.
fn node_of(socket: &Socket, nodes: &[usize]) -> Option<usize> {
    let name = socket.session.rsplit_once('.')?.1;
    ["one", "two", "three"].iter().position(|node| *node == name).and_then(|at| nodes.get(at).copied())
}

/// A client with a user of its own that is not on the node `avoided`.
async fn client_elsewhere(
    server: &TestServer,
    kind: Kind,
    nodes: &[usize],
    avoided: Option<usize>,
) -> Client {
    for n in 0..60 {
        let client = Box::pin(Client::start(server, &format!("{kind:?}{n}"), kind)).await;
        if avoided.is_none() || node_of(&client.socket, nodes) != avoided {
            return client;
        }
    }
    panic!("all users are on one node");
}

/// Twenty people enter and leave a room, add and remove each other, become its owner, change its properties and write, while nodes are killed
/// with SIGKILL, Redis is suspended and restarted, and the primary of MongoDB steps down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_clients_hold_the_same_room_after_random_acts_and_faults() {
    let mut server = TestServer::start().await;
    let mut nodes = Vec::new();
    if server.system.stores.is_some() {
        nodes = NODES.to_vec();
        nodes.push(server.system.add_node("three").await);
    }
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        people.push(server.user(&format!("person{n}")).await);
    }
    people[0].create_room(ROOM, false).await;
    let mut clients = Vec::new();
    let mut spared = None;
    if !nodes.is_empty() {
        clients.push(client_elsewhere(&server, Kind::Staying, &nodes, None).await);
        spared = node_of(&clients[0].socket, &nodes);
    }
    for kind in [Kind::Recovering, Kind::Joining] {
        clients.push(client_elsewhere(&server, kind, &nodes, spared).await);
    }
    people[0].post("/rooms/lobby/messages", &json!({"text": "an offset"})).await.expect(201);
    let observers = clients.iter().map(|client| client.user.clone()).collect();
    let people = Arc::new(People { people, observers, begun: AtomicU64::new(0) });
    let is_over = Arc::new(AtomicBool::new(false));
    let following: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(follow(client, is_over.clone()))).collect();
    let acting: Vec<_> = (0..4).map(|_| tokio::spawn(people.clone().act())).collect();
    for (round, in_cluster) in IN_CLUSTER.into_iter().enumerate() {
        let begun = ACTS * (round as u64 + 1) / (FAULTS + 1);
        let acted = async {
            while people.begun.load(Ordering::Relaxed) < begun {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(180), acted).await.expect("people act");
        let fault = if nodes.is_empty() { Fault::Kill } else { in_cluster };
        Box::pin(inject(&mut server, fault, &nodes, spared, round)).await;
    }
    for acting in acting {
        acting.await.expect("people fail only by an assertion");
    }
    is_over.store(true, Ordering::Relaxed);
    Box::pin(check_all(following, &people.observers[0], !nodes.is_empty())).await;
}

/// Checks that the log of changes and each client hold what the server lists.
async fn check_all(following: Vec<JoinHandle<Client>>, observer: &TestUser, is_cluster: bool) {
    let last = observer.get(&format!("/rooms/{ROOM}/changes")).await.expect(200).json()["rev"].clone();
    let last = last.as_u64().expect("a number");
    let (members, private) = listed(observer).await.expect("the server answers");
    let mut fresh = RoomState::default();
    let all = observer.get(&format!("/rooms/{ROOM}/changes?rev=0")).await.expect(200).json();
    all["changes"].as_array().expect("a list").iter().for_each(|change| _ = fresh.apply(change));
    let expected = (last, members, private);
    let held = |state: &RoomState| (state.rev, state.members.clone(), state.settings["private"].clone());
    if all["reset"] != true {
        assert_eq!(held(&fresh), expected, "the log has what the directory has");
    }
    assert!(last > ACTS / 10, "{last} changes are few");
    for following in following {
        let mut client = following.await.expect("clients fail only by an assertion");
        with_timeout("a client to receive the last change", async {
            while client.state.rev < last {
                Box::pin(client.settle()).await;
            }
        })
        .await;
        let kind = client.kind;
        assert_eq!(held(&client.state), expected, "{kind:?}, {} resets", client.resets);
        // In a cluster a change can be applied without an offset when its node is killed, and then no client recovers.
        assert!(client.recovered > 0 || is_cluster, "{kind:?}: no connection was recovered");
    }
}
