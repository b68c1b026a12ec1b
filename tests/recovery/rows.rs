//! The cases in which other servers lose something: the official client drops and comes back, and nothing is missing.

use serde_json::{Value, json};

use crate::support::{Connected, FlakyNetwork, OfficialClient, TestServer, TestUser, with_timeout};

/// What one more than can be recovered is.
const MOST: usize = 500;

/// Alice and an official client of hers that is connected and has been welcomed.
async fn enters(server: &TestServer, user: &TestUser) -> (OfficialClient, Connected) {
    let mut puppet = server.official_client(user);
    let first = puppet.connect().await;
    assert!(!first.recovered, "nobody was here before: {first:?}");
    puppet.event("welcome").await;
    (puppet, first)
}

/// Comes back as the same socket, told so, with exactly `missed`, each once and in order, and hears what is said from now on.
#[track_caller]
fn went_on(first: &Connected, back: &Connected) {
    assert!(back.recovered, "not recovered: {back:?}");
    assert_eq!(back.id, first.id, "another id");
}

#[tokio::test]
async fn one_event_received_then_a_drop() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let (mut alice, first) = enters(&server, &server.user("alice").await).await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    alice.drop_transport().await;
    bob.send_message("missed").await;
    went_on(&first, &alice.connect().await);
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

#[tokio::test]
async fn no_event_received_before_the_drop() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    bob.send_message("long before").await;
    let mut alice = server.official_client(&server.user("alice").await);
    let first = alice.connect().await;
    alice.drop_transport().await;
    bob.send_message("missed").await;
    went_on(&first, &alice.connect().await);
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["missed", "after"]);
}

/// The server's own client for this: it forgets what place it was told, as one does that has heard no event at all.
#[tokio::test]
async fn a_client_that_knows_no_offset_goes_on_from_where_it_connected() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    bob.send_message("long before").await;
    let alice = server.connected_user("alice").await;
    let (user, pid, sid) = (alice.user.clone(), alice.pid.clone(), alice.sid.clone());
    drop(alice);
    bob.send_message("missed").await;
    let mut back = user.try_connect(user.handshake().auth(json!({"pid": pid}))).await.expect("lets her in");
    assert_eq!((&back.pid, &back.sid), (&pid, &sid), "not recovered");
    bob.send_message("after").await;
    back.receive_message("after").await;
    let texts: Vec<&str> =
        back.received.iter().filter_map(|message| message["data"]["text"].as_str()).collect();
    assert_eq!(texts, ["missed", "after"]);
}

#[tokio::test]
async fn the_last_events_were_volatile() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let (mut alice, first) = enters(&server, &server.user("alice").await).await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    bob.emit_with_ack("typing", &json!({"isTyping": true})).await;
    let last = alice.event("typing").await;
    assert!(!last.last().is_some_and(Value::is_string), "would be taken for an offset: {last:?}");
    alice.drop_transport().await;
    bob.send_message("missed").await;
    went_on(&first, &alice.connect().await);
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

#[tokio::test]
async fn the_last_event_was_volatile_with_a_string_argument() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let (mut alice, mut visit) = enters(&server, &server.user("alice").await).await;
    let mut expected = Vec::new();
    // With a message of this visit behind it, without one, and after one that was missed.
    for (before, strange) in
        [(Some("before"), "hello world"), (None, "zzz"), (Some("again"), "0123456789abcdef-x")]
    {
        if let Some(text) = before {
            bob.send_message(text).await;
            alice.receive_message(text).await;
            expected.push(text.to_owned());
        }
        bob.until("presence:diff", |diff| names(diff, "joined").contains(&"alice")).await;
        alice.receive_false_offset(strange).await;
        alice.drop_transport().await;
        bob.until("presence:diff", |diff| names(diff, "left").contains(&"alice")).await;
        let missed = format!("missed behind {strange}");
        bob.send_message(&missed).await;
        let back = alice.connect().await;
        went_on(&visit, &back);
        expected.push(missed);
        visit = back;
    }
    bob.send_message("after").await;
    alice.receive_message("after").await;
    expected.push("after".to_owned());
    assert_eq!(alice.texts(), expected);
}

/// Of a log that is gone nobody knows what came after.
#[tokio::test]
async fn the_offset_is_of_another_log() {
    let server = TestServer::start().await;
    let (mut alice, first) = enters(&server, &server.user("alice").await).await;
    alice.receive_false_offset("0123456789abcdef-1").await;
    alice.drop_transport().await;
    let back = alice.connect().await;
    assert!(!back.recovered && back.id != first.id, "{first:?} {back:?}");
}

#[tokio::test]
async fn half_open_the_server_has_not_noticed_the_drop() {
    // So slow a heartbeat that the server cannot find out by itself while this lasts.
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
    bob.send_message("sent into the void").await;
    assert!(!network.is_closed_by_server(0), "the server noticed, so this is no half-open connection");
    went_on(&first, &alice.connect().await);
    network.closed_by_server(0).await;
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "sent into the void", "after"]);

    // Her old connection's end is not hers.
    let mut online = json!(null);
    with_timeout("alice to be online", async {
        while online != json!(["alice", "bob"]) {
            online = bob.user.get("/presence/online").await.expect(200).json()["online"].take();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// A window of minutes would have closed: what the client knows is 23 hours old.
#[tokio::test]
async fn quiet_for_longer_than_any_recovery_window_then_a_short_drop() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let (mut alice, first) = enters(&server, &server.user("alice").await).await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    server.system.age_data(23 * 3600).await;
    alice.drop_transport().await;
    bob.send_message("missed").await;
    went_on(&first, &alice.connect().await);
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

/// No session is older than a day, so neither is what it left behind.
#[tokio::test]
async fn after_more_than_a_day_a_client_starts_anew() {
    let server = TestServer::start().await;
    let (mut alice, first) = enters(&server, &server.user("alice").await).await;
    server.system.age_data(25 * 3600).await;
    alice.drop_transport().await;
    let back = alice.connect().await;
    assert!(!back.recovered && back.id != first.id, "{first:?} {back:?}");
}

#[tokio::test]
async fn the_session_was_revoked_during_the_gap() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let user = server.user("alice").await;
    let (mut alice, _) = enters(&server, &user).await;
    alice.drop_transport().await;
    user.log_out().await;
    bob.send_message("not for her any more").await;
    alice.connect_refused().await;
    assert_eq!(alice.texts(), [""; 0]);
}

/// Where the credentials are in CONNECT, the refusal is a CONNECT_ERROR with a code.
#[tokio::test]
async fn the_session_was_revoked_during_the_gap_of_a_client_with_a_token_in_connect() {
    let page = "http://page.example";
    let server = TestServer::start_with(&["--allow-origin", page]).await;
    let user = server.user("alice").await;
    let options = json!({
        "transports": ["websocket"],
        "auth": {"token": user.token()},
        "extraHeaders": {"Origin": page},
    });
    let mut alice = OfficialClient::of("alice", server.system.address, "", &options);
    alice.connect().await;
    alice.drop_transport().await;
    let back = alice.connect().await;
    assert!(back.recovered, "{back:?}");
    alice.drop_transport().await;
    user.log_out().await;
    let refused = alice.connect_refused().await;
    assert_eq!(refused["data"]["code"], "unauthorized", "{refused}");
}

#[tokio::test]
async fn the_server_was_killed_and_restarted_in_the_gap() {
    let mut server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let (mut alice, first) = enters(&server, &server.user("alice").await).await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    alice.drop_transport().await;
    bob.send_message("missed").await;
    server.system.kill();
    server.system.restart().await;
    went_on(&first, &alice.connect().await);
    let mut bob = bob.user.connect().await;
    bob.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

/// The crash is the drop, and the client comes back on its own, in its own time.
#[tokio::test]
async fn the_server_was_killed_and_the_client_comes_back_by_itself() {
    let mut server = TestServer::start().await;
    let bob = server.user("bob").await;
    let (mut alice, first) = enters(&server, &server.user("alice").await).await;
    bob.connect().await.send_message("before").await;
    alice.receive_message("before").await;
    server.system.kill();
    alice.disconnected().await;
    server.system.restart().await;
    bob.connect().await.send_message("missed, or heard by a client that was quick").await;
    went_on(&first, &alice.connected().await);
    bob.connect().await.send_message("after").await;
    alice.receive_message("after").await;
    assert_eq!(alice.texts(), ["before", "missed, or heard by a client that was quick", "after"]);
}

#[tokio::test]
async fn as_many_missed_as_can_be_recovered() {
    let server = TestServer::start_with(&["--message-rate", "10000", "--message-burst", "10000"]).await;
    let (mut alice, first) = enters(&server, &server.user("alice").await).await;
    alice.drop_transport().await;
    let expected = says_many(&server, MOST).await;
    went_on(&first, &alice.connect().await);
    alice.receive_message(expected.last().expect("many")).await;
    assert_eq!(alice.texts(), expected);
}

#[tokio::test]
async fn more_missed_than_can_be_recovered_and_the_client_reloads_the_history() {
    let server = TestServer::start_with(&["--message-rate", "10000", "--message-burst", "10000"]).await;
    let (mut alice, first) = enters(&server, &server.user("alice").await).await;
    alice.drop_transport().await;
    let expected = says_many(&server, MOST + 1).await;
    let back = alice.connect().await;
    assert!(!back.recovered && back.id != first.id, "{first:?} {back:?}");
    alice.event("welcome").await;

    let mut known: Vec<String> = Vec::new();
    while known.len() < expected.len() {
        let answer = alice.emit_with_ack("join", json!({"room": "lobby", "since": known.len()})).await;
        let messages = answer["messages"].as_array().cloned().unwrap_or_default();
        assert!(answer["ok"] == true && !messages.is_empty(), "after {}: {answer}", known.len());
        known.extend(
            messages.iter().filter_map(|message| message["data"]["text"].as_str().map(str::to_owned)),
        );
    }
    assert_eq!(known, expected);
    assert_eq!(alice.texts(), [""; 0], "all or nothing");
}

/// Bob says `count` things, all acked; returns them.
async fn says_many(server: &TestServer, count: usize) -> Vec<String> {
    let mut bob = server.connected_user("bob").await;
    let texts: Vec<String> = (1..=count).map(|n| format!("number {n}")).collect();
    // No more open at once than one socket may have.
    for some in texts.chunks(50) {
        let ids: Vec<u64> = some.iter().map(|text| bob.request("message", &json!({"text": text}))).collect();
        for id in ids {
            let ack = bob.ack(id).await;
            assert_eq!(ack["ok"], true, "{ack}");
        }
    }
    texts
}

/// Who came or went by a `presence:diff`.
fn names<'a>(diff: &'a Value, which: &str) -> Vec<&'a str> {
    diff[which].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
