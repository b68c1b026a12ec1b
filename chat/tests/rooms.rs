//! Rooms through sockets and HTTP: joining, leaving, adding and removing, and the delivery of messages during changes.

mod support;

use chat::Config;
use serde_json::{Value, json};
use support::{TestChat, gated_directory::Gate};

#[actix_rt::test]
async fn commands_of_one_client_run_in_the_order_sent() {
    let server = TestChat::start().await;
    let (mut alice, mut bob) = (server.client("alice").await, server.client("bob").await);
    server.create_room("tea", "alice", false).await;
    alice.event("room:joined").await;
    let acks = [
        bob.emit("message", json!({"text": "too early", "room": "tea"})).await,
        bob.emit("join", json!({"room": "tea"})).await,
        bob.emit("message", json!({"text": "tea?", "room": "tea"})).await,
        bob.emit("leave", json!({"room": "tea"})).await,
        bob.emit("message", json!({"text": "too late", "room": "tea"})).await,
    ];
    assert_eq!(bob.ack(acks[0]).await["code"], "forbidden");
    let joined = bob.ack(acks[1]).await;
    let epoch = joined["epoch"].clone();
    let position = json!({"head": 0, "messages": [], "rev": 2, "changes": [], "more": false, "first": 1});
    let mut expected = json!({"ok": true, "epoch": epoch});
    expected.as_object_mut().unwrap().extend(position.as_object().unwrap().clone());
    assert_eq!(joined, expected);
    assert_eq!(bob.ack(acks[2]).await["seq"], 1);
    assert_eq!(bob.ack(acks[3]).await, json!({"ok": true}));
    assert_eq!(bob.ack(acks[4]).await["code"], "forbidden");
    let joined = json!({"room": "tea", "username": "bob", "rev": 2, "role": "member"});
    assert_eq!(alice.event("room:joined").await[0], joined);
    assert_eq!(alice.message_text().await, "tea?");
    assert_eq!(alice.event("room:left").await[0], json!({"room": "tea", "username": "bob", "rev": 3}));
    alice.ask("message", json!({"text": "gone?", "room": "tea"})).await;
    alice.ask("message", json!({"text": "ah", "room": "lobby"})).await;
    assert_eq!(bob.message_text().await, "ah", "a user who has left receives no messages");
}

#[actix_rt::test]
async fn a_user_removed_during_connect_receives_no_messages_of_the_room() {
    let gate = Gate::of("bob");
    let server = TestChat::with_directory(Config::default(), |directory| gate.wrap(directory)).await;
    server.create_room("den", "alice", true).await;
    let mut alice = server.client("alice").await;
    let member = "/rooms/den/members/bob";
    assert_eq!(server.http("alice", "PUT", member, Value::Null).await.0, 200);
    let login = server.login("bob").await;
    let removed = async {
        gate.wait_for_read().await;
        assert_eq!(server.http("alice", "DELETE", member, Value::Null).await.0, 200);
        gate.open();
    };
    let (mut bob, ()) = futures_util::join!(server.connect(&login), removed);
    alice.ask("message", json!({"text": "secret", "room": "den"})).await;
    alice.ask("message", json!({"text": "open"})).await;
    assert_eq!(bob.message_text().await, "open");
}

#[actix_rt::test]
async fn a_user_added_during_connect_receives_messages_of_the_room() {
    let gate = Gate::of("bob");
    let server = TestChat::with_directory(Config::default(), |directory| gate.wrap(directory)).await;
    server.create_room("den", "alice", true).await;
    let mut alice = server.client("alice").await;
    let login = server.login("bob").await;
    let added = async {
        gate.wait_for_read().await;
        assert_eq!(server.http("alice", "PUT", "/rooms/den/members/bob", Value::Null).await.0, 200);
        gate.open();
    };
    let (mut bob, ()) = futures_util::join!(server.connect(&login), added);
    alice.ask("message", json!({"text": "welcome", "room": "den"})).await;
    assert_eq!(bob.message_text().await, "welcome");
}

#[actix_rt::test]
async fn archiving_a_room_removes_all_members() {
    let server = TestChat::start().await;
    let (mut alice, mut bob) = (server.client("alice").await, server.client("bob").await);
    server.create_room("tea", "alice", false).await;
    bob.ask("join", json!({"room": "tea"})).await;
    assert_eq!(server.http("alice", "DELETE", "/rooms/tea", Value::Null).await.0, 200);
    let left = json!({"room": "tea", "username": "bob", "rev": 3, "by": "alice"});
    assert_eq!(bob.event("room:left").await[0], left);
    let left = json!({"room": "tea", "username": "alice", "rev": 3});
    assert_eq!(alice.event("room:left").await[0], left);
    assert_eq!(alice.ask("message", json!({"text": "x", "room": "tea"})).await["code"], "not_found");
    assert_eq!(bob.ask("join", json!({"room": "tea"})).await["code"], "not_found");
    assert_eq!(bob.ask("typing", json!({"isTyping": true, "room": "tea"})).await["code"], "not_found");
}

#[actix_rt::test]
async fn the_lobby_cannot_be_left_and_joining_it_changes_nothing() {
    let server = TestChat::start().await;
    let mut alice = server.client("alice").await;
    assert_eq!(alice.ask("leave", json!({"room": "lobby"})).await["code"], "forbidden");
    let joined = alice.ask("join", json!({"room": "lobby"})).await;
    let position = ["ok", "head", "messages", "rev", "first"].map(|field| joined[field].clone());
    assert_eq!(json!(position), json!([true, 0, [], 0, 1]));
    assert!(alice.drain().await.iter().all(|packet| !packet.contains("room:joined")));
}

#[actix_rt::test]
async fn joining_during_posts_leaves_no_gap() {
    let server = TestChat::start().await;
    server.create_room("tea", "alice", false).await;
    let (mut alice, mut bob) = (server.client("alice").await, server.client("bob").await);
    let mut acks = Vec::new();
    for n in 1..=10 {
        acks.push(alice.emit("message", json!({"text": n.to_string(), "room": "tea"})).await);
    }
    let joined = bob.emit("join", json!({"room": "tea", "since": 0})).await;
    for n in 11..=20 {
        acks.push(alice.emit("message", json!({"text": n.to_string(), "room": "tea"})).await);
    }
    for ack in acks {
        assert_eq!(alice.ack(ack).await["ok"], true);
    }
    let joined = bob.ack(joined).await;
    let mut seqs: Vec<u64> = joined["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["seq"].as_u64().unwrap())
        .collect();
    while seqs.last() != Some(&20) {
        let seq = bob.event("message").await[0]["seq"].as_u64().unwrap();
        if seqs.last().is_none_or(|last| seq > *last) {
            seqs.push(seq);
        }
    }
    assert!(seqs.iter().copied().eq(1..=20), "{seqs:?}");
}
