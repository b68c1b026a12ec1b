//! Recovery with credentials that do not fit: another user's session, an invalid `pid` or offset, a room that was left. And the
//! messages that a recovery must not deliver.

use serde_json::{Value, json};

use crate::support::{Socket, TestServer, TestUser};

/// Connects with a `pid` and an `offset`.
async fn reconnect(user: &TestUser, pid: &str, offset: impl Into<Value>) -> Socket {
    let auth = json!({"pid": pid, "offset": offset.into()});
    user.try_connect(user.handshake().auth(auth)).await.unwrap_or_else(|why| panic!("{}: {why:?}", user.name))
}

fn texts(socket: &Socket) -> Vec<&str> {
    socket.received.iter().filter_map(|message| message["data"]["text"].as_str()).collect()
}

#[tokio::test]
async fn a_pid_of_another_user_recovers_nothing_and_does_not_affect_that_user() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    bob.user.create_room("den", true).await;
    bob.user.add_member("alice", "den").await.expect(200);
    alice.until("room:joined", |joined| joined["room"] == "den").await;
    bob.send_message_to("den", "to the den").await;

    let mallory = server.user("mallory").await;
    let mut attacker = reconnect(&mallory, &alice.pid, alice.offset.clone()).await;
    assert!(attacker.pid != alice.pid && attacker.sid != alice.sid, "recovered another user's session");
    let welcome = attacker.next("welcome").await;
    assert_eq!(welcome["username"], "mallory");
    bob.send_message("to all").await;
    attacker.receive_message("to all").await;
    assert_eq!(texts(&attacker), ["to all"]);
    alice.receive_message("to all").await;
    assert_eq!(texts(&alice), ["to the den", "to all"], "alice's connection was affected");
}

#[tokio::test]
async fn an_offset_that_was_never_assigned_recovers_nothing_and_is_no_error() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let user = server.user("alice").await;
    let mut alice = user.connect().await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    let (pid, offset) = (alice.pid.clone(), alice.offset.clone().expect("a message has an offset"));
    drop(alice);
    bob.send_message("missed").await;

    let digits = offset.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    let (epoch, position) = offset.split_at(digits);
    assert!(!epoch.is_empty() && !position.is_empty(), "{offset:?} is no epoch with a position");
    let other_epoch: String = epoch
        .chars()
        .map(|c| {
            if c == '0' {
                '1'
            } else if c.is_ascii_digit() {
                '0'
            } else {
                c
            }
        })
        .collect();
    let future = format!("{epoch}{}", position.parse::<u64>().expect("digits") + 1_000_000);
    let another = (other_epoch != epoch).then(|| format!("{other_epoch}{position}"));
    for offset in another.into_iter().chain([future]) {
        let mut reconnected = reconnect(&user, &pid, offset.clone()).await;
        assert_ne!(reconnected.pid, pid, "{offset:?} was recovered from");
        assert_eq!(reconnected.next("welcome").await["username"], "alice", "{offset:?}");
        reconnected.receive_pending().await;
        assert_eq!(texts(&reconnected), [""; 0], "{offset:?}");
    }
    // With the valid offset the same `pid` recovers.
    let mut reconnected = reconnect(&user, &pid, offset).await;
    assert_eq!(reconnected.pid, pid);
    reconnected.receive_message("missed").await;
}

#[tokio::test]
async fn a_pid_that_was_never_assigned_recovers_nothing_and_is_no_error() {
    let server = TestServer::start().await;
    let alice = server.connected_user("alice").await;
    for pid in ["", "x", "' OR 1=1 --", &"a".repeat(5000), &alice.sid] {
        let mut reconnected = reconnect(&alice.user, pid, alice.offset.clone()).await;
        assert!(reconnected.pid != pid && !reconnected.pid.is_empty(), "{pid:?}");
        reconnected.next("welcome").await;
    }
    for auth in
        [json!({"pid": 1, "offset": 2}), json!({"pid": alice.pid, "offset": {}}), json!({"pid": null})]
    {
        let reconnected = alice.user.try_connect(alice.user.handshake().auth(auth.clone())).await;
        assert!(reconnected.is_ok(), "{auth}");
    }
}

#[tokio::test]
async fn messages_after_the_removal_from_a_room_are_not_recovered() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let user = server.user("alice").await;
    bob.user.create_room("den", true).await;
    bob.user.add_member("alice", "den").await.expect(200);
    let mut alice = user.connect().await;
    bob.send_message_to("den", "with her").await;
    alice.receive_message("with her").await;
    let (pid, offset) = (alice.pid.clone(), alice.offset.clone());
    drop(alice);
    bob.user.remove_member("alice", "den").await.expect(200);
    bob.send_message_to("den", "without her").await;
    bob.send_message("missed in the lobby").await;

    let mut reconnected = reconnect(&user, &pid, offset).await;
    bob.send_message_to("den", "still without her").await;
    bob.send_message("after").await;
    reconnected.receive_message("after").await;
    let received: Vec<&str> = texts(&reconnected);
    assert!(!received.iter().any(|text| text.contains("without")), "{received:?}");
    assert!(
        reconnected.pid != pid || received == ["missed in the lobby", "after"],
        "recovered with {received:?}"
    );
}

#[tokio::test]
async fn a_recovery_does_not_deliver_the_messages_that_the_same_socket_sent() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let user = server.user("alice").await;
    let (mut alice, other_tab) = (user.connect().await, user.connect().await);
    let offset = alice.offset.clone();
    let (other_pid, other_offset) = (other_tab.pid.clone(), other_tab.offset.clone());
    drop(other_tab);
    alice.send_message("mine").await;
    bob.send_message("yours").await;
    alice.receive_message("yours").await;
    let pid = alice.pid.clone();
    drop(alice);

    // Both offsets are before both messages, so that the recovery covers both.
    let mut reconnected = reconnect(&user, &pid, offset).await;
    let mut other_tab = reconnect(&user, &other_pid, other_offset).await;
    assert_eq!((&reconnected.pid, &other_tab.pid), (&pid, &other_pid), "not recovered");
    bob.send_message("after").await;
    reconnected.receive_message("after").await;
    other_tab.receive_message("after").await;
    assert_eq!(texts(&reconnected), ["yours", "after"]);
    assert_eq!(
        texts(&other_tab),
        ["mine", "yours", "after"],
        "the other tab receives the message of the first tab"
    );
}

/// Official clients store any string at the end of any event as their offset.
#[tokio::test]
async fn with_a_malformed_offset_the_client_continues_from_the_close_of_its_connection() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let user = server.user("alice").await;
    let mut alice = user.connect().await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    let (pid, offset) = (alice.pid.clone(), alice.offset.clone().expect("a message has an offset"));
    let (epoch, position) = offset.rsplit_once('-').expect("an epoch and a position");
    let malformed = [
        String::new(),
        "x".into(),
        position.into(),
        epoch.into(),
        format!("{epoch}--1"),
        format!("{epoch}-18446744073709551616"),
        format!("{offset}x"),
        format!("{epoch}-x{position}"),
        "' OR 1=1 --".into(),
        "9".repeat(10_000),
    ];
    for (n, offset) in malformed.into_iter().enumerate() {
        let shown: String = offset.chars().take(60).collect();
        bob.until("presence:diff", |diff| names(diff, "joined").contains(&"alice")).await;
        drop(alice);
        bob.until("presence:diff", |diff| names(diff, "left").contains(&"alice")).await;
        let missed = format!("missed {n}");
        bob.send_message(&missed).await;
        alice = reconnect(&user, &pid, offset).await;
        assert_eq!(alice.pid, pid, "{shown:?} was not recovered from");
        alice.receive_message(&missed).await;
        alice.receive_pending().await;
        assert_eq!(texts(&alice), [missed.as_str()], "{shown:?}");
    }
}

/// The names in the list `which` of a `presence:diff`.
fn names<'a>(diff: &'a Value, which: &str) -> Vec<&'a str> {
    diff[which].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
