//! The change log under crashes: members and properties of a room change while processes are killed. Four clients hold the same state at
//! the end: one that recovers its connections, one that asks with `join`, one that does both, and a fresh one.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{Handshake, NODES, Request, RoomState, Socket, TestServer, TestUser, with_timeout};

/// Rounds of changes; a process is killed in each.
const ROUNDS: usize = 4;
/// Changes in a round. One user makes them, below the limit of additions.
const CHANGES: usize = 14;
const ROOM: &str = "den";

/// What a client does with a recovered connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// It relies on the events that recovery sends.
    Recovering,
    /// It sends `join` with its `rev` after every connect.
    Joining,
}

/// A client that keeps the state of the room.
struct Client {
    kind: Kind,
    user: TestUser,
    socket: Socket,
    state: RoomState,
    /// How often its session was recovered.
    recovered: usize,
}

impl Client {
    async fn start(server: &TestServer, name: &str, kind: Kind) -> Self {
        let user = server.user(name).await;
        let mut socket = user.connect().await;
        socket.join(ROOM).await;
        let mut client = Self { kind, user, socket, state: RoomState::default(), recovered: 0 };
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

    /// Asks for the changes after its own last one. Does nothing when the connection ends.
    async fn catch_up(&mut self) {
        loop {
            let join = json!({"room": ROOM, "rev": self.state.rev, "enter": false});
            let request = self.socket.request("join", &join);
            let Some(answer) = self.socket.try_ack(request).await else { return };
            if answer["code"] == "unavailable" {
                continue;
            }
            assert_eq!((&answer["ok"], &answer["reset"]), (&json!(true), &Value::Null), "{answer}");
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

/// Sends a request until it has an outcome. All requests name the state that they want, so they may be repeated.
async fn act(owner: &TestUser, request: impl Fn() -> Request) {
    with_timeout("the outcome of a change", async {
        loop {
            let request = request().cookie(owner.token());
            let answer = request.try_send(owner.source, owner.server).await;
            match answer.map(|answer| answer.status) {
                Some(200) => return,
                None | Some(429 | 500..) => sleep(Duration::from_millis(100)).await,
                Some(status) => panic!("{status} is no answer to a change"),
            }
        }
    })
    .await;
}

/// One change of the room. `n` selects it.
async fn change(owner: &TestUser, n: usize) {
    let member = format!("/rooms/{ROOM}/members/user{}", n / 2 % 5);
    match n % 7 {
        6 => {
            let body = json!({"private": n.is_multiple_of(2)});
            act(owner, || Request::new("PATCH", &format!("/rooms/{ROOM}")).json(&body)).await;
        }
        kind => {
            act(owner, || Request::new(if kind.is_multiple_of(2) { "PUT" } else { "DELETE" }, &member)).await
        }
    }
}

/// Kills a process of the system and restarts it: the only one, or a chat node.
async fn kill_and_restart(server: &mut TestServer, round: usize) {
    if server.system.processes.len() == 1 {
        server.system.kill();
        server.system.restart().await;
    } else {
        let node = NODES[round % NODES.len()];
        server.system.processes[node].kill();
        server.system.restart_process(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_clients_hold_the_same_members_after_kills_during_changes() {
    let mut server = TestServer::start().await;
    let owner = server.user("alice").await;
    owner.create_room(ROOM, false).await;
    for n in 0..5 {
        server.user(&format!("user{n}")).await;
    }
    let mut clients = [
        Box::pin(Client::start(&server, "recovering", Kind::Recovering)).await,
        Box::pin(Client::start(&server, "joining", Kind::Joining)).await,
    ];
    // Without a message a client has no offset, and recovers from its connect.
    owner.post("/rooms/lobby/messages", &json!({"text": "an offset"})).await.expect(201);
    let mut count = 0;
    for round in 0..ROUNDS {
        for client in &mut clients {
            Box::pin(client.settle()).await;
        }
        let changes = async {
            for _ in 0..CHANGES {
                change(&owner, count).await;
                count += 1;
            }
        };
        tokio::join!(Box::pin(changes), Box::pin(kill_and_restart(&mut server, round)));
    }
    let position = owner.get(&format!("/rooms/{ROOM}/changes")).await.expect(200).json();
    let last = position["rev"].as_u64().expect("a number");
    let mut fresh = RoomState::default();
    let all = owner.get(&format!("/rooms/{ROOM}/changes?rev=0")).await.expect(200).json();
    all["changes"].as_array().expect("a list").iter().for_each(|change| _ = fresh.apply(change));
    assert_eq!(fresh.rev, last);
    let room = owner.get(&format!("/rooms/{ROOM}")).await.expect(200).json();
    let listed: Vec<&Value> =
        room["members"].as_array().expect("a list").iter().map(|member| &member["username"]).collect();
    assert_eq!(fresh.members.keys().collect::<Vec<_>>(), listed, "the log has what the directory has");
    for client in &mut clients {
        with_timeout("a client to receive the last change", async {
            while client.state.rev < last {
                Box::pin(client.settle()).await;
            }
        })
        .await;
        let held = |state: &RoomState| (state.rev, state.members.clone(), state.settings["private"].clone());
        assert_eq!(held(&client.state), held(&fresh), "{:?}", client.kind);
        assert!(client.recovered > 0, "{:?}: no connection was recovered", client.kind);
    }
}
