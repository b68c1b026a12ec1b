//! Who may not go on where somebody was, what nobody gets back, and what a client may say about its place in the log without
//! harm.

use serde_json::{Value, json};

use crate::support::{Socket, TestServer, TestUser};

/// Comes back with a `pid` and an `offset`.
async fn returns(user: &TestUser, pid: &str, offset: impl Into<Value>) -> Socket {
    let auth = json!({"pid": pid, "offset": offset.into()});
    user.try_connect(user.handshake().auth(auth)).await.unwrap_or_else(|why| panic!("{}: {why:?}", user.name))
}

fn texts(socket: &Socket) -> Vec<&str> {
    socket.received.iter().filter_map(|message| message["data"]["text"].as_str()).collect()
}

#[tokio::test]
async fn a_place_of_somebody_else_is_worth_nothing_and_takes_nothing_from_them() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    bob.user.create_room("den", true).await;
    bob.user.add_member("alice", "den").await.expect(200);
    alice.until("room:joined", |joined| joined["room"] == "den").await;
    bob.send_message_to("den", "between us").await;

    let mallory = server.user("mallory").await;
    let mut thief = returns(&mallory, &alice.pid, alice.offset.clone()).await;
    assert!(thief.pid != alice.pid && thief.sid != alice.sid, "the ticket of another user was taken");
    let welcome = thief.next("welcome").await;
    assert_eq!(welcome["username"], "mallory");
    bob.send_message("to all").await;
    thief.receive_message("to all").await;
    assert_eq!(texts(&thief), ["to all"]);
    alice.receive_message("to all").await;
    assert_eq!(texts(&alice), ["between us", "to all"], "alice has lost her connection");
}

#[tokio::test]
async fn a_place_that_never_was_recovers_nothing_and_is_no_error() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let user = server.user("alice").await;
    let mut alice = user.connect().await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    let (pid, offset) = (alice.pid.clone(), alice.offset.clone().expect("a message has one"));
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
        let mut back = returns(&user, &pid, offset.clone()).await;
        assert_ne!(back.pid, pid, "{offset:?} was recovered from");
        assert_eq!(back.next("welcome").await["username"], "alice", "{offset:?}");
        back.receive_pending().await;
        assert_eq!(texts(&back), [""; 0], "{offset:?}");
    }
    // The secret is still good for whoever knows the place.
    let mut back = returns(&user, &pid, offset).await;
    assert_eq!(back.pid, pid);
    back.receive_message("missed").await;
}

#[tokio::test]
async fn a_secret_that_never_was_recovers_nothing_and_is_no_error() {
    let server = TestServer::start().await;
    let alice = server.connected_user("alice").await;
    for pid in ["", "x", "' OR 1=1 --", &"a".repeat(5000), &alice.sid] {
        let mut back = returns(&alice.user, pid, alice.offset.clone()).await;
        assert!(back.pid != pid && !back.pid.is_empty(), "{pid:?}");
        back.next("welcome").await;
    }
    for auth in
        [json!({"pid": 1, "offset": 2}), json!({"pid": alice.pid, "offset": {}}), json!({"pid": null})]
    {
        let back = alice.user.try_connect(alice.user.handshake().auth(auth.clone())).await;
        assert!(back.is_ok(), "{auth}");
    }
}

#[tokio::test]
async fn who_was_put_out_of_a_room_does_not_get_what_was_said_there_since() {
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

    let mut back = returns(&user, &pid, offset).await;
    bob.send_message_to("den", "still without her").await;
    bob.send_message("after").await;
    back.receive_message("after").await;
    let received: Vec<&str> = texts(&back);
    assert!(!received.iter().any(|text| text.contains("without")), "{received:?}");
    assert!(
        back.pid != pid || received == ["missed in the lobby", "after"],
        "recovered, and yet {received:?}"
    );
}

#[tokio::test]
async fn what_a_client_said_itself_is_not_told_to_it_when_it_comes_back() {
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

    // From before both, so that all of it is told again but her own.
    let mut back = returns(&user, &pid, offset).await;
    let mut other_tab = returns(&user, &other_pid, other_offset).await;
    assert_eq!((&back.pid, &other_tab.pid), (&pid, &other_pid), "not recovered");
    bob.send_message("after").await;
    back.receive_message("after").await;
    other_tab.receive_message("after").await;
    assert_eq!(texts(&back), ["yours", "after"]);
    assert_eq!(texts(&other_tab), ["mine", "yours", "after"], "another tab did not say it");
}

/// Stock clients take any string at the end of any event for an offset.
#[tokio::test]
async fn what_is_no_place_at_all_is_where_the_client_was_when_it_closed_its_connection() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let user = server.user("alice").await;
    let mut alice = user.connect().await;
    bob.send_message("before").await;
    alice.receive_message("before").await;
    let (pid, offset) = (alice.pid.clone(), alice.offset.clone().expect("a message has one"));
    let (epoch, position) = offset.rsplit_once('-').expect("an epoch and a position");
    let strange = [
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
    for (n, offset) in strange.into_iter().enumerate() {
        let shown: String = offset.chars().take(60).collect();
        bob.until("presence:diff", |diff| names(diff, "joined").contains(&"alice")).await;
        drop(alice);
        bob.until("presence:diff", |diff| names(diff, "left").contains(&"alice")).await;
        let missed = format!("missed {n}");
        bob.send_message(&missed).await;
        alice = returns(&user, &pid, offset).await;
        assert_eq!(alice.pid, pid, "{shown:?} was not recovered from");
        alice.receive_message(&missed).await;
        alice.receive_pending().await;
        assert_eq!(texts(&alice), [missed.as_str()], "{shown:?}");
    }
}

/// Who came or went by a `presence:diff`.
fn names<'a>(diff: &'a Value, which: &str) -> Vec<&'a str> {
    diff[which].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
