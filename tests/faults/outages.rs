//! While a part of the split system is unavailable: operations that do not need it continue, operations that need it are refused.

use std::time::Duration;

use serde_json::json;

use crate::support::{ACCOUNTS, ConnectFailure, NODES, PRESENCE, Request, TestServer, with_timeout};

/// Redis holds the sessions: without it no session can be verified, and open connections continue.
#[tokio::test]
async fn without_redis_new_connections_are_refused_and_open_ones_continue() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    let carol = server.user("carol").await;
    alice.send_message("before").await;
    bob.receive_message("before").await;
    server.system.stores.as_mut().expect("a split system").redis.kill();
    // A fourth login within this time would exceed the rate limit.
    for (password, status) in [(carol.password.as_str(), 503), ("a wrong guess", 401)] {
        let credentials = json!({"username": "carol", "password": password});
        carol.send(Request::post("/user/login", &credentials)).await.expect_refusal(status);
        let history = carol.request(Request::get("/rooms/lobby/messages")).await;
        assert_eq!(history.status, 503, "{history:?}");
        assert!(carol.try_connect(carol.handshake()).await.is_err(), "accepted an unverified session");
    }
    alice.send_message("redis is down").await;
    bob.receive_message("redis is down").await;
    server.system.stores.as_mut().expect("a split system").redis.restart();
    server.system.wait_until_ready().await;
    carol.connect().await;
    bob.send_message("after").await;
    alice.receive_message("after").await;
}

#[tokio::test]
async fn a_logout_survives_a_crash_of_redis_and_closes_sockets_on_every_node() {
    let mut server = TestServer::start_split().await;
    let alice = server.user("alice").await;
    let mut tabs = [alice.connect().await, alice.connect().await];
    alice.log_out().await;
    for tab in &mut tabs {
        tab.closed().await;
    }
    let redis = &mut server.system.stores.as_mut().expect("a split system").redis;
    redis.kill();
    redis.restart();
    server.system.wait_until_ready().await;
    assert_eq!(alice.request(Request::get("/user/me")).await.status, 401);
    assert!(alice.try_connect(alice.handshake()).await.is_err());
}

#[tokio::test]
async fn without_mongodb_a_message_is_refused_in_time_and_not_delivered() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    alice.send_message("before").await;
    bob.receive_message("before").await;
    server.system.stores.as_mut().expect("a split system").mongo.kill();
    let refused = alice.emit_with_ack("message", &json!({"text": "lost", "clientId": "c"})).await;
    assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("unavailable")), "{refused}");
    let login = alice.user.send(Request::post("/user/login", &alice.user.credentials())).await;
    assert_eq!(login.status, 503, "{login:?}");
    let history = alice.emit_with_ack("history", &json!({"room": "lobby"})).await;
    assert_eq!((&history["ok"], &history["code"]), (&json!(false), &json!("unavailable")), "{history}");
    let history = alice.user.request(Request::get("/rooms/lobby/messages")).await;
    assert_eq!(history.status, 503, "{history:?}");
    // The user's rooms cannot be loaded: the connection ends without CONNECT_ERROR, after which official clients would not reconnect.
    let late = bob.user.try_connect(bob.user.handshake()).await;
    assert!(matches!(late, Err(ConnectFailure::Ended(_))), "accepted, or refused with CONNECT_ERROR");
    // Operations without a store continue.
    bob.emit_with_ack("typing", &json!({"isTyping": true})).await;
    alice.until("typing", |typing| typing["users"] == json!(["bob"])).await;
    server.system.stores.as_mut().expect("a split system").mongo.restart().await;
    server.system.wait_until_ready().await;
    with_timeout("the same message to be stored", async {
        while alice.emit_with_ack("message", &json!({"text": "lost", "clientId": "c"})).await["ok"] != true {}
    })
    .await;
    bob.receive_message("lost").await;
    assert_eq!(bob.texts(), ["before", "lost"]);
}

#[tokio::test]
async fn without_presence_messages_are_delivered_and_the_presence_state_is_unknown() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    server.system.processes[PRESENCE].kill();
    alice.until("presence", |presence| presence["state"] == "unknown").await;
    alice.send_message("first").await;
    bob.receive_message("first").await;
    let mut carol = server.connected_user("carol").await;
    carol.send_message("second").await;
    bob.receive_message("second").await;
    server.system.restart_process(PRESENCE).await;
    alice.until("presence", |presence| presence["online"] == json!(["alice", "bob", "carol"])).await;
}

#[tokio::test]
async fn without_accounts_messages_are_delivered_and_logins_are_refused() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    server.system.processes[ACCOUNTS].kill();
    let login = alice.user.send(Request::post("/user/login", &alice.user.credentials())).await;
    assert_eq!(login.status, 503, "{login:?}");
    alice.send_message("without accounts").await;
    bob.receive_message("without accounts").await;
    alice.user.connect().await;
}

/// Longer than a socket with an unverifiable session stays open, which is a minute.
const LONG: Duration = Duration::from_secs(90);

#[tokio::test]
async fn sockets_with_unverifiable_sessions_are_closed_and_can_reconnect() {
    let mut server = TestServer::start_split().await;
    let mut alice = server.connected_user("alice").await;
    server.system.stores.as_mut().expect("a split system").redis.kill();
    assert!(!alice.is_open_for(LONG).await, "still open after {LONG:?}");
    assert_eq!(alice.closed().await.why, "session_unverifiable");
    server.system.wait_for_log("sockets are closed because their sessions cannot be checked").await;
    server.system.stores.as_mut().expect("a split system").redis.restart();
    server.system.wait_until_ready().await;
    let mut reconnected = alice.user.connect().await;
    reconnected.send_message("again").await;
}

#[tokio::test]
async fn users_of_a_killed_node_are_offline() {
    let mut server = TestServer::start_split().await;
    let mut bob = server.connected_user("bob").await;
    let node_of = |session: &str| session.rsplit_once('.').map(|(_, node)| node.to_owned()).expect("a node");
    let (mut others, mut n) = (Vec::new(), 0);
    let alice = loop {
        let other = server.connected_user(&format!("alice{n}")).await;
        if node_of(&other.session) != node_of(&bob.session) {
            break other;
        }
        others.push(other);
        n += 1;
    };
    let name = alice.user.name.clone();
    bob.until("presence:diff", |diff| diff["joined"].to_string().contains(&name)).await;
    let index = if node_of(&alice.session) == "one" { NODES[0] } else { NODES[1] };
    server.system.processes[index].kill();
    bob.until("presence:diff", |diff| diff["left"].to_string().contains(&name)).await;
    let online = bob.user.request(Request::get("/presence/online")).await.expect(200).json();
    assert!(!online.to_string().contains(&name) && online.to_string().contains("bob"), "{online}");
}
