//! Recovery of the official client in the cases in which other servers lose messages: it drops, reconnects and misses nothing.

use serde_json::{Value, json};

use crate::support::{Connected, FlakyNetwork, OfficialClient, TestServer, TestUser, with_timeout};

/// The most missed messages that a recovery delivers.
const RECOVERY_LIMIT: usize = 500;

/// The connected official client of a user, after `welcome`.
async fn connect(server: &TestServer, user: &TestUser) -> (OfficialClient, Connected) {
    let mut client = server.official_client(user);
    let first = client.connect().await;
    assert!(!first.recovered, "the first connection: {first:?}");
    client.event("welcome").await;
    (client, first)
}

/// Requires that the client recovered its session with the same id.
#[track_caller]
fn assert_recovered(first: &Connected, reconnected: &Connected) {
    assert!(reconnected.recovered, "not recovered: {reconnected:?}");
    assert_eq!(reconnected.id, first.id, "another id");
}

#[tokio::test]
async fn a_message_missed_after_one_received_event_is_recovered() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let (mut alice, first) = connect(&server, &server.user("alice").await).await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    alice.drop_transport().await;
    bob.send_message("missed").await;
    assert_recovered(&first, &alice.connect().await);
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

#[tokio::test]
async fn a_message_missed_before_any_received_event_is_recovered() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    bob.send_message("long before").await;
    let mut alice = server.official_client(&server.user("alice").await);
    let first = alice.connect().await;
    alice.drop_transport().await;
    bob.send_message("missed").await;
    assert_recovered(&first, &alice.connect().await);
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["missed", "after"]);
}

#[tokio::test]
async fn a_message_missed_after_volatile_events_is_recovered() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let (mut alice, first) = connect(&server, &server.user("alice").await).await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    bob.emit_with_ack("typing", &json!({"isTyping": true})).await;
    let last = alice.event("typing").await;
    assert!(!last.last().is_some_and(Value::is_string), "the client would store it as its offset: {last:?}");
    alice.drop_transport().await;
    bob.send_message("missed").await;
    assert_recovered(&first, &alice.connect().await);
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

#[tokio::test]
async fn a_reconnect_replaces_a_half_open_connection() {
    // The heartbeat is so slow that the server cannot detect the drop during the test.
    let server = TestServer::start_with(&["--ping-interval", "300s", "--stall-timeout", "300s"]).await;
    let network = FlakyNetwork::to(server.system.address).await;
    let mut bob = server.connected_user("bob").await;
    let user = server.user("alice").await;
    let options = json!({"transports": ["websocket"]});
    let mut alice = OfficialClient::of("alice", network.address, user.token(), &options);
    let first = alice.connect().await;
    bob.send_message("before").await;
    alice.receive_message("before").await;

    assert_eq!(network.stop_forwarding(), 1);
    alice.drop_transport().await;
    bob.send_message("sent while half-open").await;
    assert!(!network.is_closed_by_server(0), "the server has closed the half-open connection");
    assert_recovered(&first, &alice.connect().await);
    network.closed_by_server(0).await;
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "sent while half-open", "after"]);

    // The end of the old connection does not take alice offline.
    let mut online = json!(null);
    with_timeout("alice to be online", async {
        while online != json!(["alice", "bob"]) {
            online = bob.user.get("/presence/online").await.expect(200).json()["online"].take();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_whose_session_was_revoked_meanwhile_is_refused() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let user = server.user("alice").await;
    let (mut alice, _) = connect(&server, &user).await;
    alice.drop_transport().await;
    user.log_out().await;
    bob.send_message("after the logout").await;
    alice.connect_refused().await;
    assert_eq!(alice.texts(), [""; 0]);
}

#[tokio::test]
async fn a_message_missed_across_a_kill_and_restart_of_the_server_is_recovered() {
    let mut server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let (mut alice, first) = connect(&server, &server.user("alice").await).await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    alice.drop_transport().await;
    bob.send_message("missed").await;
    server.system.kill();
    server.system.restart().await;
    assert_recovered(&first, &alice.connect().await);
    let mut bob = bob.user.connect().await;
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

/// The kill is the drop, and the client reconnects by itself.
#[tokio::test]
async fn a_client_recovers_by_itself_after_a_kill_of_the_server() {
    let mut server = TestServer::start().await;
    let bob = server.user("bob").await;
    let (mut alice, first) = connect(&server, &server.user("alice").await).await;
    bob.connect().await.send_message("before").await;
    alice.receive_message("before").await;
    server.system.kill();
    alice.disconnected().await;
    server.system.restart().await;
    bob.connect().await.send_message("missed, or received after a quick reconnect").await;
    assert_recovered(&first, &alice.connected().await);
    bob.connect().await.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "missed, or received after a quick reconnect", "after"]);
}

#[tokio::test]
async fn as_many_missed_messages_as_the_limit_are_recovered() {
    let server = TestServer::start_with(&["--message-rate", "10000", "--message-burst", "10000"]).await;
    let (mut alice, first) = connect(&server, &server.user("alice").await).await;
    alice.drop_transport().await;
    let expected = send_many(&server, RECOVERY_LIMIT).await;
    assert_recovered(&first, &alice.connect().await);
    alice.receive_message(expected.last().expect("a message")).await;
    assert_eq!(alice.texts(), expected);
}

#[tokio::test]
async fn with_more_missed_messages_than_the_limit_the_client_reloads_the_history() {
    let server = TestServer::start_with(&["--message-rate", "10000", "--message-burst", "10000"]).await;
    let (mut alice, first) = connect(&server, &server.user("alice").await).await;
    alice.drop_transport().await;
    let expected = send_many(&server, RECOVERY_LIMIT + 1).await;
    let reconnected = alice.connect().await;
    assert!(!reconnected.recovered && reconnected.id != first.id, "{first:?} {reconnected:?}");
    alice.event("welcome").await;

    let mut texts: Vec<String> = Vec::new();
    while texts.len() < expected.len() {
        let answer = alice.emit_with_ack("join", json!({"room": "lobby", "since": texts.len()})).await;
        let messages = answer["messages"].as_array().cloned().unwrap_or_default();
        assert!(answer["ok"] == true && !messages.is_empty(), "after {}: {answer}", texts.len());
        texts.extend(
            messages.iter().filter_map(|message| message["data"]["text"].as_str().map(str::to_owned)),
        );
    }
    assert_eq!(texts, expected);
    assert_eq!(alice.texts(), [""; 0], "a recovery delivers all missed messages or none");
}

/// Bob sends `count` messages and waits for all acks; returns the texts.
async fn send_many(server: &TestServer, count: usize) -> Vec<String> {
    let mut bob = server.connected_user("bob").await;
    let texts: Vec<String> = (1..=count).map(|n| format!("number {n}")).collect();
    // At most 50 unacked requests, the limit of one socket.
    for some in texts.chunks(50) {
        let ids: Vec<u64> = some.iter().map(|text| bob.request("message", &json!({"text": text}))).collect();
        for id in ids {
            let ack = bob.ack(id).await;
            assert_eq!(ack["ok"], true, "{ack}");
        }
    }
    texts
}
