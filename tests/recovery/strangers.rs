//! Who may not go on where somebody was, what nobody gets back, and what a client may say about its place in the log without
//! harm.

use serde_json::{Value, json};

use crate::stage::{Person, Socket, Stage};

/// Comes back with a `pid` and an `offset`.
async fn returns(person: &Person, pid: &str, offset: impl Into<Value>) -> Socket {
    let auth = json!({"pid": pid, "offset": offset.into()});
    person.tries(person.handshake().auth(auth)).await.unwrap_or_else(|why| panic!("{}: {why:?}", person.name))
}

fn texts(socket: &Socket) -> Vec<&str> {
    socket.heard.iter().filter_map(|message| message["data"]["text"].as_str()).collect()
}

#[tokio::test]
async fn a_place_of_somebody_else_is_worth_nothing_and_takes_nothing_from_them() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut bob = stage.enters("bob").await;
    bob.person.creates_room("den", true).await;
    bob.person.adds("alice", "den").await.expect(200);
    alice.until("room:joined", |joined| joined["room"] == "den").await;
    bob.says_in("den", "between us").await;

    let mallory = stage.person("mallory").await;
    let mut thief = returns(&mallory, &alice.pid, alice.offset.clone()).await;
    assert!(thief.pid != alice.pid && thief.sid != alice.sid, "the ticket of another user was taken");
    let welcome = thief.next("welcome").await;
    assert_eq!(welcome["username"], "mallory");
    bob.says("to all").await;
    thief.hears("to all").await;
    assert_eq!(texts(&thief), ["to all"]);
    alice.hears("to all").await;
    assert_eq!(texts(&alice), ["between us", "to all"], "alice has lost her connection");
}

#[tokio::test]
async fn a_place_that_never_was_recovers_nothing_and_is_no_error() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let person = stage.person("alice").await;
    let mut alice = person.connects().await;
    bob.says("before").await;
    alice.hears("before").await;
    let (pid, offset) = (alice.pid.clone(), alice.offset.clone().expect("a message has one"));
    drop(alice);
    bob.says("missed").await;

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
        let mut back = returns(&person, &pid, offset.clone()).await;
        assert_ne!(back.pid, pid, "{offset:?} was recovered from");
        assert_eq!(back.next("welcome").await["username"], "alice", "{offset:?}");
        back.hears_out().await;
        assert_eq!(texts(&back), [""; 0], "{offset:?}");
    }
    // The secret is still good for whoever knows the place.
    let mut back = returns(&person, &pid, offset).await;
    assert_eq!(back.pid, pid);
    back.hears("missed").await;
}

#[tokio::test]
async fn a_secret_that_never_was_recovers_nothing_and_is_no_error() {
    let stage = Stage::opens().await;
    let alice = stage.enters("alice").await;
    for pid in ["", "x", "' OR 1=1 --", &"a".repeat(5000), &alice.sid] {
        let mut back = returns(&alice.person, pid, alice.offset.clone()).await;
        assert!(back.pid != pid && !back.pid.is_empty(), "{pid:?}");
        back.next("welcome").await;
    }
    for auth in
        [json!({"pid": 1, "offset": 2}), json!({"pid": alice.pid, "offset": {}}), json!({"pid": null})]
    {
        let back = alice.person.tries(alice.person.handshake().auth(auth.clone())).await;
        assert!(back.is_ok(), "{auth}");
    }
}

#[tokio::test]
async fn who_was_put_out_of_a_room_does_not_get_what_was_said_there_since() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let person = stage.person("alice").await;
    bob.person.creates_room("den", true).await;
    bob.person.adds("alice", "den").await.expect(200);
    let mut alice = person.connects().await;
    bob.says_in("den", "with her").await;
    alice.hears("with her").await;
    let (pid, offset) = (alice.pid.clone(), alice.offset.clone());
    drop(alice);
    bob.person.removes("alice", "den").await.expect(200);
    bob.says_in("den", "without her").await;
    bob.says("missed in the lobby").await;

    let mut back = returns(&person, &pid, offset).await;
    bob.says_in("den", "still without her").await;
    bob.says("after").await;
    back.hears("after").await;
    let heard: Vec<&str> = texts(&back);
    assert!(!heard.iter().any(|text| text.contains("without")), "{heard:?}");
    assert!(back.pid != pid || heard == ["missed in the lobby", "after"], "recovered, and yet {heard:?}");
}

#[tokio::test]
async fn what_a_client_said_itself_is_not_told_to_it_when_it_comes_back() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let person = stage.person("alice").await;
    let (mut alice, other_tab) = (person.connects().await, person.connects().await);
    let offset = alice.offset.clone();
    let (other_pid, other_offset) = (other_tab.pid.clone(), other_tab.offset.clone());
    drop(other_tab);
    alice.says("mine").await;
    bob.says("yours").await;
    alice.hears("yours").await;
    let pid = alice.pid.clone();
    drop(alice);

    // From before both, so that all of it is told again but her own.
    let mut back = returns(&person, &pid, offset).await;
    let mut other_tab = returns(&person, &other_pid, other_offset).await;
    assert_eq!((&back.pid, &other_tab.pid), (&pid, &other_pid), "not recovered");
    bob.says("after").await;
    back.hears("after").await;
    other_tab.hears("after").await;
    assert_eq!(texts(&back), ["yours", "after"]);
    assert_eq!(texts(&other_tab), ["mine", "yours", "after"], "another tab did not say it");
}

/// Stock clients take any string at the end of any event for an offset.
#[tokio::test]
async fn what_is_no_place_at_all_is_where_the_client_was_when_it_closed_its_connection() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let person = stage.person("alice").await;
    let mut alice = person.connects().await;
    bob.says("before").await;
    alice.hears("before").await;
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
        bob.says(&missed).await;
        alice = returns(&person, &pid, offset).await;
        assert_eq!(alice.pid, pid, "{shown:?} was not recovered from");
        alice.hears(&missed).await;
        alice.hears_out().await;
        assert_eq!(texts(&alice), [missed.as_str()], "{shown:?}");
    }
}

/// Who came or went by a `presence:diff`.
fn names<'a>(diff: &'a Value, which: &str) -> Vec<&'a str> {
    diff[which].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
