//! What is possible while a part of the split system is away, and what is refused at once instead of guessed.

use std::time::Duration;

use serde_json::json;

use crate::support::{ACCOUNTS, ConnectFailure, NODES, PRESENCE, Request, TestServer, with_timeout};

/// Redis knows who is logged in: without it nobody gets in, and who is in talks on.
#[tokio::test]
async fn without_redis_nobody_gets_in_and_who_is_in_talks_on() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    let carol = server.user("carol").await;
    alice.send_message("before").await;
    bob.receive_message("before").await;
    server.system.stores.as_mut().expect("a split system").redis.kill();
    // A fourth login within this moment would be one too many.
    for password in [carol.password.as_str(), "a wrong guess"] {
        let credentials = json!({"username": "carol", "password": password});
        let login = carol.send(Request::post("/user/login", &credentials)).await;
        assert_eq!(login.status, 503, "tells whether a guess is right: {login:?}");
        let history = carol.request(Request::get("/rooms/lobby/messages")).await;
        assert_eq!(history.status, 503, "{history:?}");
        assert!(carol.try_connect(carol.handshake()).await.is_err(), "let in on a guess");
    }
    alice.send_message("away").await;
    bob.receive_message("away").await;
    server.system.stores.as_mut().expect("a split system").redis.restart();
    server.system.wait_until_ready().await;
    carol.connect().await;
    bob.send_message("after").await;
    alice.receive_message("after").await;
}

#[tokio::test]
async fn a_logout_outlives_a_crash_of_redis_and_cuts_sockets_on_every_node() {
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
async fn without_mongodb_a_send_is_refused_in_time_and_nobody_is_shown_it() {
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
    // Which rooms are theirs nobody can say: ended without a refusal, after which stock clients would not come back.
    let late = bob.user.try_connect(bob.user.handshake()).await;
    assert!(matches!(late, Err(ConnectFailure::Ended(_))), "let in on a guess, or refused");
    // What needs no store goes on.
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
async fn without_presence_people_talk_on_and_nobody_claims_to_know_who_is_here() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    server.system.processes[PRESENCE].kill();
    alice.until("presence", |presence| presence["state"] == "unknown").await;
    alice.send_message("who is here?").await;
    bob.receive_message("who is here?").await;
    let mut carol = server.connected_user("carol").await;
    carol.send_message("me").await;
    bob.receive_message("me").await;
    server.system.restart_process(PRESENCE).await;
    alice.until("presence", |presence| presence["online"] == json!(["alice", "bob", "carol"])).await;
}

#[tokio::test]
async fn without_accounts_people_talk_on_and_nobody_logs_in() {
    let mut server = TestServer::start_split().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    server.system.processes[ACCOUNTS].kill();
    let login = alice.user.send(Request::post("/user/login", &alice.user.credentials())).await;
    assert_eq!(login.status, 503, "{login:?}");
    alice.send_message("on we go").await;
    bob.receive_message("on we go").await;
    alice.user.connect().await;
}

/// Longer than sockets stay that nobody can verify, which is a minute.
const LONG: Duration = Duration::from_secs(90);

#[tokio::test]
async fn sockets_whose_logins_nobody_can_verify_any_more_are_closed_and_may_come_back() {
    let mut server = TestServer::start_split().await;
    let mut alice = server.connected_user("alice").await;
    server.system.stores.as_mut().expect("a split system").redis.kill();
    assert!(!alice.is_open_for(LONG).await, "still open after {LONG:?}");
    assert_eq!(alice.closed().await.why, "session_unverifiable");
    server.system.wait_for_log("nobody can say whether their sessions live").await;
    server.system.stores.as_mut().expect("a split system").redis.restart();
    server.system.wait_until_ready().await;
    let mut back = alice.user.connect().await;
    back.send_message("again").await;
}

#[tokio::test]
async fn the_people_of_a_node_that_was_killed_are_offline() {
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
