//! Cleanup after the end of a membership, a session or a connection: typing, presence, slots and subscriptions.

use chat::Config;
use serde_json::{Value, json};
use sessions::Sessions;

use crate::support::{Client, DEADLINE, TestChat};

/// Waits for a `typing` event with exactly these users.
async fn typing(client: &mut Client, expected: Value) {
    let seen = async {
        loop {
            let typing = client.event("typing").await.remove(0);
            if typing["users"] == expected {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("no typing event with {expected}"));
}

/// Waits until the user is listed as typing over HTTP (`true`) or not (`false`).
async fn typing_over_http(server: &TestChat, user: &str, expected: bool) {
    let seen = async {
        loop {
            let (_, answer) = server.http("alice", "GET", "/presence/typing", Value::Null).await;
            let is_typing = answer["typing"].as_array().is_some_and(|users| users.contains(&json!(user)));
            if answer["typing"].is_array() && is_typing == expected {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.expect("the list of typing users is updated");
}

fn of<'a>(packets: &'a [String], event: &str) -> Vec<&'a String> {
    packets.iter().filter(|packet| packet.starts_with(&format!("42[\"{event}\""))).collect()
}

#[actix_rt::test]
async fn typing_is_sent_to_other_users_only() {
    let server = TestChat::start().await;
    let login = server.login("alice").await;
    let (mut alice, mut phone) = (server.connect(&login).await, server.connect(&login).await);
    let (mut bob, mut carol) = (server.client("bob").await, server.client("carol").await);
    assert_eq!(alice.ask("typing", json!({"isTyping": true})).await["ok"], true);
    typing(&mut bob, json!(["alice"])).await;
    typing(&mut carol, json!(["alice"])).await;
    assert_eq!(bob.ask("typing", json!({"isTyping": true})).await["ok"], true);
    typing(&mut carol, json!(["alice", "bob"])).await;
    typing(&mut alice, json!(["bob"])).await;
    typing(&mut phone, json!(["bob"])).await;
    assert_eq!(alice.ask("typing", json!({"isTyping": false})).await["ok"], true);
    typing(&mut bob, json!([])).await;
    typing(&mut carol, json!(["bob"])).await;
    for own in [&mut alice, &mut phone] {
        let received = own.drain().await;
        assert!(of(&received, "typing").iter().all(|list| !list.contains("alice")), "{received:?}");
    }
}

#[actix_rt::test]
async fn a_removed_member_stops_typing_and_receives_nothing_on_any_device() {
    let server = TestChat::start().await;
    let login = server.login("bob").await;
    let (mut bob, mut tablet) = (server.connect(&login).await, server.connect(&login).await);
    let mut alice = server.client("alice").await;
    server.create_room("tea", "alice", false).await;
    assert_eq!(bob.ask("join", json!({"room": "tea"})).await["ok"], true);
    assert_eq!(bob.ask("typing", json!({"isTyping": true, "room": "tea"})).await["ok"], true);
    typing(&mut alice, json!(["bob"])).await;
    typing_over_http(&server, "bob", true).await;
    assert_eq!(server.http("alice", "DELETE", "/rooms/tea/members/bob", Value::Null).await.0, 200);
    typing(&mut alice, json!([])).await;
    typing_over_http(&server, "bob", false).await;
    for device in [&mut bob, &mut tablet] {
        device.receive_until("42[\"room:left\"").await;
    }
    assert_eq!(alice.ask("typing", json!({"isTyping": true, "room": "tea"})).await["ok"], true);
    assert_eq!(alice.ask("message", json!({"text": "he is gone", "room": "tea"})).await["ok"], true);
    typing_over_http(&server, "alice", true).await;
    for device in [&mut bob, &mut tablet] {
        assert_eq!(device.ask("typing", json!({"isTyping": true, "room": "tea"})).await["code"], "forbidden");
        assert_eq!(device.ask("history", json!({"room": "tea"})).await["code"], "forbidden");
        let received = device.drain().await;
        assert!(!received.iter().any(|packet| packet.contains("he is gone")), "{received:?}");
        assert!(
            of(&received, "typing").iter().all(|list| !list.contains("\"tea\"") || list.contains("[]")),
            "{received:?}"
        );
    }
}

#[actix_rt::test]
async fn a_revoked_session_loses_its_typing_presence_and_slots_and_other_sessions_stay() {
    let server = TestChat::with(Config { sockets_per_user: 2, ..Config::default() }).await;
    let (first, second) = (server.login("alice").await, server.login("alice").await);
    let mut bob = server.client("bob").await;
    let (mut here, mut there) = (server.connect(&first).await, server.connect(&second).await);
    // Changes between two `presence:diff` events cancel each other out, so the test waits until bob has received the arrival.
    let alice = json!("alice");
    while !bob.event("presence:diff").await[0]["joined"].as_array().is_some_and(|all| all.contains(&alice)) {}
    assert_eq!(here.ask("typing", json!({"isTyping": true})).await["ok"], true);
    typing(&mut bob, json!(["alice"])).await;
    server.sessions.close(&first.token.id()).await.unwrap();
    while here.next().await.is_some() {}
    typing(&mut bob, json!([])).await;
    assert_eq!(there.ask("message", json!({"text": "still here"})).await["ok"], true);
    // The slot of the revoked session is free.
    let third = server.login("alice").await;
    let mut device = server.connect(&third).await;
    let (_, online) = server.http("bob", "GET", "/presence/online", Value::Null).await;
    assert_eq!(online["online"], json!(["alice", "bob"]), "another device is still connected");
    for login in [&second, &third] {
        server.sessions.close(&login.token.id()).await.unwrap();
    }
    while device.next().await.is_some() {}
    let gone = async {
        loop {
            if bob.event("presence:diff").await[0]["left"] == json!(["alice"]) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("alice goes offline");
}

#[actix_rt::test]
async fn an_archived_room_has_no_subscribers_and_does_not_count_against_the_limit() {
    let server = TestChat::with(Config { rooms_per_user: 1, ..Config::default() }).await;
    let (mut alice, mut bob) = (server.client("alice").await, server.client("bob").await);
    server.create_room("tea", "alice", false).await;
    assert_eq!(bob.ask("join", json!({"room": "tea"})).await["ok"], true);
    assert_eq!(bob.ask("typing", json!({"isTyping": true, "room": "tea"})).await["ok"], true);
    typing(&mut alice, json!(["bob"])).await;
    assert_eq!(server.http("alice", "DELETE", "/rooms/tea", Value::Null).await.0, 200);
    bob.receive_until("42[\"room:left\"").await;
    typing_over_http(&server, "bob", false).await;
    for event in ["message", "typing", "history", "join", "leave"] {
        let payload = json!({"text": "x", "isTyping": true, "room": "tea"});
        assert_eq!(bob.ask(event, payload).await["code"], "not_found", "{event}");
    }
    assert_eq!(
        server.http("bob", "POST", "/rooms", json!({"name": "own"})).await.0,
        201,
        "the limit is free again"
    );
    let (status, again) = server.http("alice", "POST", "/rooms", json!({"name": "tea"})).await;
    assert_eq!(
        (status, &again["message"]),
        (409, &json!("this name is taken: a room has it, or an archived room keeps it"))
    );
}
