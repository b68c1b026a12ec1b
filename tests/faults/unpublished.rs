//! Messages while Redis serves reads and refuses writes: each socket receives each message of its rooms once and in order, for every
//! kind of room, whenever the room was created and however its members joined.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::write_faults::{WriteFault, node_of, redis, request_with_retry};
use crate::support::{ConnectedUser, NODES, Request, TestServer, with_timeout};

/// How a room is created and its members join.
#[derive(Debug, Clone, Copy)]
enum RoomKind {
    /// Public; the others join with `join`.
    Public,
    /// Private; the others are added.
    Private,
    /// Private and ephemeral; the others are added.
    Ephemeral,
}

impl RoomKind {
    const ALL: [Self; 3] = [Self::Public, Self::Private, Self::Ephemeral];
}

/// Alice and carol are connected to one node, bob to the other. All connected before any of the rooms was created.
struct Users {
    alice: ConnectedUser,
    bob: ConnectedUser,
    carol: ConnectedUser,
}

impl Users {
    async fn connect(server: &TestServer) -> Self {
        let alice = server.connected_user("alice").await;
        let (mut bob, mut carol) = (None, None);
        for n in 0..60 {
            let other = server.connected_user(&format!("other{n}")).await;
            let slot = if node_of(&other) == node_of(&alice) { &mut carol } else { &mut bob };
            if slot.is_none() {
                *slot = Some(other);
            }
            if bob.is_some() && carol.is_some() {
                break;
            }
        }
        let (bob, carol) = bob.zip(carol).expect("users on both nodes");
        Self { alice, bob, carol }
    }

    async fn create_room(&mut self, room: &str, kind: RoomKind) {
        let (private, ephemeral) = (!matches!(kind, RoomKind::Public), matches!(kind, RoomKind::Ephemeral));
        let new = json!({"name": room, "private": private, "ephemeral": ephemeral});
        request_with_retry(&self.alice.user, || Request::post("/rooms", &new), 201).await;
        for member in [&mut self.bob, &mut self.carol] {
            let name = member.user.name.clone();
            if let RoomKind::Public = kind {
                member.join(room).await;
            } else {
                let add = format!("/rooms/{room}/members/{name}");
                request_with_retry(&self.alice.user, || Request::new("PUT", &add), 200).await;
                member
                    .until("room:joined", |event| event["room"] == room && event["username"] == *name)
                    .await;
            }
        }
    }

    /// Alice and bob send messages by socket and over HTTP, and the others receive them.
    async fn exchange_messages(&mut self, room: &str, phase: &str) {
        let text = |who: &str, way: &str| format!("{phase} {room}: {who} {way}");
        send_with_retry(&mut self.alice, room, &text("alice", "by socket")).await;
        self.bob.receive_message(&text("alice", "by socket")).await;
        self.carol.receive_message(&text("alice", "by socket")).await;
        let target = format!("/rooms/{room}/messages");
        let sent = json!({"text": text("bob", "over HTTP")});
        request_with_retry(&self.bob.user, || Request::post(&target, &sent), 201).await;
        for user in [&mut self.alice, &mut self.bob, &mut self.carol] {
            user.receive_message(&text("bob", "over HTTP")).await;
        }
        send_with_retry(&mut self.bob, room, &text("bob", "by socket")).await;
        self.alice.receive_message(&text("bob", "by socket")).await;
        self.carol.receive_message(&text("bob", "by socket")).await;
    }

    /// Each user has received every stored message once and in order, without the messages of their own socket.
    async fn check_received_once(&mut self, rooms: &[String], what: &str) {
        let users = [
            (&mut self.alice, "alice by socket"),
            (&mut self.bob, "bob by socket"),
            (&mut self.carol, "not a sender"),
        ];
        for (user, own) in users {
            user.receive_pending().await;
            let mut received: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for message in &user.received {
                let room = message["room"].as_str().unwrap_or_default().to_owned();
                received.entry(room).or_default().push(seq_and_text(message));
            }
            for room in rooms {
                let stored = user.user.read_history(room).await;
                let expected: Vec<String> = stored
                    .iter()
                    .filter(|message| {
                        !message["data"]["text"].as_str().is_some_and(|text| text.ends_with(own))
                    })
                    .map(seq_and_text)
                    .collect();
                assert!(!expected.is_empty(), "{what}: no message was sent to {room}");
                let received = received.remove(room).unwrap_or_default();
                assert_eq!(received, expected, "{what}: {} in {room}", user.user.name);
            }
        }
    }
}

fn seq_and_text(message: &Value) -> String {
    format!("{} {}", message["seq"], message["data"]["text"])
}

/// Sends a message, and retries when the rate limit refuses it.
async fn send_with_retry(sender: &mut ConnectedUser, room: &str, text: &str) {
    with_timeout("a message within the limit", async {
        loop {
            let ack = sender.emit_with_ack("message", &json!({"room": room, "text": text})).await;
            let Some(wait) = ack["retryAfter"].as_f64() else { return assert_eq!(ack["ok"], true, "{ack}") };
            sleep(Duration::from_secs_f64(wait)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn while_redis_refuses_writes_messages_are_received_once_and_in_order_in_rooms_of_every_kind() {
    let mut server = TestServer::start_split().await;
    let mut users = Users::connect(&server).await;
    let mut rooms = Vec::new();
    for (number, fault) in WriteFault::ALL.into_iter().enumerate() {
        // Created before the fault; no message was sent to them.
        let before: Vec<String> =
            RoomKind::ALL.iter().map(|kind| format!("{kind:?}{number}").to_lowercase()).collect();
        for (room, kind) in before.iter().zip(RoomKind::ALL) {
            Box::pin(users.create_room(room, kind)).await;
        }
        fault.inject(redis(&server));
        // Created during the fault.
        let during: Vec<String> = before.iter().map(|room| format!("{room}-late")).collect();
        for (room, kind) in during.iter().zip(RoomKind::ALL) {
            Box::pin(users.create_room(room, kind)).await;
        }
        let all: Vec<String> = before.into_iter().chain(during).collect();
        for room in &all {
            Box::pin(users.exchange_messages(room, "fault")).await;
        }
        fault.clear(redis(&server));
        server.system.wait_until_ready().await;
        rooms.extend(all);
        for room in &rooms {
            Box::pin(users.exchange_messages(room, &format!("cleared {number}"))).await;
        }
        Box::pin(users.check_received_once(&rooms, &format!("{fault:?}"))).await;
    }
}

#[tokio::test]
async fn a_node_that_restarts_while_redis_refuses_writes_loses_and_repeats_no_message() {
    let mut server = TestServer::start_split().await;
    let mut users = Users::connect(&server).await;
    let node = NODES[usize::from(node_of(&users.bob) != "one")];
    for (number, fault) in WriteFault::ALL.into_iter().enumerate() {
        let room = format!("room{number}");
        Box::pin(users.create_room(&room, RoomKind::Private)).await;
        fault.inject(redis(&server));
        users.alice.send_message_to(&room, "one").await;
        users.bob.receive_message("one").await;
        users.carol.receive_message("one").await;
        server.system.processes[node].kill();
        users.alice.send_message_to(&room, "two").await;
        users.carol.receive_message("two").await;
        fault.clear(redis(&server));
        server.system.restart_process(node).await;
        users.alice.send_message_to(&room, "three").await;
        users.carol.receive_message("three").await;
        let Users { alice, bob, carol } = &mut users;
        let mut reconnected = with_timeout("a connection to a node", async {
            loop {
                if let Ok(socket) = bob.user.try_connect(bob.user.handshake()).await {
                    break socket;
                }
            }
        })
        .await;
        let joined = reconnected.emit_with_ack("join", &json!({"room": room, "since": 1})).await;
        let mut seqs: Vec<u64> = Vec::new();
        let missed = joined["messages"].as_array().cloned().unwrap_or_default();
        seqs.extend(missed.iter().filter_map(|message| message["seq"].as_u64()));
        alice.send_message_to(&room, "four").await;
        carol.receive_message("four").await;
        reconnected.receive_message("four").await;
        let live = reconnected.received.iter().filter(|message| message["room"] == *room);
        let live: Vec<u64> = live.filter_map(|message| message["seq"].as_u64()).collect();
        assert!(live.is_sorted_by(|a, b| a < b), "{fault:?}: {live:?}");
        seqs.extend(live);
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs, [2, 3, 4], "{fault:?}: {joined}");
        let texts = carol.texts().into_iter().skip(number * 4).collect::<Vec<_>>();
        assert_eq!(texts, ["one", "two", "three", "four"], "{fault:?}");
        *bob = ConnectedUser::new(bob.user.clone(), reconnected);
    }
}
