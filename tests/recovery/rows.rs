//! The cases in which other servers lose something: the official client drops and comes back, and nothing is missing.

use serde_json::{Value, json};

use crate::stage::{Connected, Person, Puppet, Stage, Tunnel, soon};

/// What one more than can be recovered is.
const MOST: usize = 500;

/// Alice and an official client of hers that is connected and has been welcomed.
async fn enters(stage: &Stage, person: &Person) -> (Puppet, Connected) {
    let mut puppet = stage.puppet(person);
    let first = puppet.connects().await;
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
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let (mut alice, first) = enters(&stage, &stage.person("alice").await).await;
    bob.says("before").await;
    alice.hears("before").await;
    alice.drops().await;
    bob.says("missed").await;
    went_on(&first, &alice.connects().await);
    bob.says("after").await;
    alice.hears("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

#[tokio::test]
async fn no_event_received_before_the_drop() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    bob.says("long before").await;
    let mut alice = stage.puppet(&stage.person("alice").await);
    let first = alice.connects().await;
    alice.drops().await;
    bob.says("missed").await;
    went_on(&first, &alice.connects().await);
    bob.says("after").await;
    alice.hears("after").await;
    assert_eq!(alice.texts(), ["missed", "after"]);
}

/// The server's own client for this: it forgets what place it was told, as one does that has heard no event at all.
#[tokio::test]
async fn a_client_that_knows_no_offset_goes_on_from_where_it_connected() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    bob.says("long before").await;
    let alice = stage.enters("alice").await;
    let (person, pid, sid) = (alice.person.clone(), alice.pid.clone(), alice.sid.clone());
    drop(alice);
    bob.says("missed").await;
    let mut back = person.tries(person.handshake().auth(json!({"pid": pid}))).await.expect("lets her in");
    assert_eq!((&back.pid, &back.sid), (&pid, &sid), "not recovered");
    bob.says("after").await;
    back.hears("after").await;
    let texts: Vec<&str> = back.heard.iter().filter_map(|message| message["data"]["text"].as_str()).collect();
    assert_eq!(texts, ["missed", "after"]);
}

#[tokio::test]
async fn the_last_events_were_volatile() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let (mut alice, first) = enters(&stage, &stage.person("alice").await).await;
    bob.says("before").await;
    alice.hears("before").await;
    bob.asks("typing", &json!({"isTyping": true})).await;
    let last = alice.event("typing").await;
    assert!(!last.last().is_some_and(Value::is_string), "would be taken for an offset: {last:?}");
    alice.drops().await;
    bob.says("missed").await;
    went_on(&first, &alice.connects().await);
    bob.says("after").await;
    alice.hears("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

#[tokio::test]
async fn the_last_event_was_volatile_with_a_string_argument() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let (mut alice, mut visit) = enters(&stage, &stage.person("alice").await).await;
    let mut expected = Vec::new();
    // With a message of this visit behind it, without one, and after one that was missed.
    for (before, strange) in
        [(Some("before"), "hello world"), (None, "zzz"), (Some("again"), "0123456789abcdef-x")]
    {
        if let Some(text) = before {
            bob.says(text).await;
            alice.hears(text).await;
            expected.push(text.to_owned());
        }
        bob.until("presence:diff", |diff| names(diff, "joined").contains(&"alice")).await;
        alice.takes_for_an_offset(strange).await;
        alice.drops().await;
        bob.until("presence:diff", |diff| names(diff, "left").contains(&"alice")).await;
        let missed = format!("missed behind {strange}");
        bob.says(&missed).await;
        let back = alice.connects().await;
        went_on(&visit, &back);
        expected.push(missed);
        visit = back;
    }
    bob.says("after").await;
    alice.hears("after").await;
    expected.push("after".to_owned());
    assert_eq!(alice.texts(), expected);
}

/// Of a log that is gone nobody knows what came after.
#[tokio::test]
async fn the_offset_is_of_another_log() {
    let stage = Stage::opens().await;
    let (mut alice, first) = enters(&stage, &stage.person("alice").await).await;
    alice.takes_for_an_offset("0123456789abcdef-1").await;
    alice.drops().await;
    let back = alice.connects().await;
    assert!(!back.recovered && back.id != first.id, "{first:?} {back:?}");
}

#[tokio::test]
async fn half_open_the_server_has_not_noticed_the_drop() {
    // So slow a heartbeat that the server cannot find out by itself while this lasts.
    let stage = Stage::opens_with(&["--ping-interval", "300s", "--stall-timeout", "300s"]).await;
    let tunnel = Tunnel::to(stage.server.address).await;
    let mut bob = stage.enters("bob").await;
    let person = stage.person("alice").await;
    let options = json!({"transports": ["websocket"]});
    let mut alice = Puppet::of("alice", tunnel.address, person.token(), &options);
    let first = alice.connects().await;
    bob.says("before").await;
    alice.hears("before").await;

    assert_eq!(tunnel.falls_silent(), 1);
    alice.drops().await;
    bob.says("sent into the void").await;
    assert!(!tunnel.has_ended(0), "the server noticed, so this is no half-open connection");
    went_on(&first, &alice.connects().await);
    tunnel.is_ended_by_the_server(0).await;
    bob.says("after").await;
    alice.hears("after").await;
    assert_eq!(alice.texts(), ["before", "sent into the void", "after"]);

    // Her old connection's end is not hers.
    let mut online = json!(null);
    soon("alice to be online", async {
        while online != json!(["alice", "bob"]) {
            online = bob.person.gets("/presence/online").await.expect(200).json()["online"].take();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// A window of minutes would have closed: what the client knows is 23 hours old.
#[tokio::test]
async fn quiet_for_longer_than_any_recovery_window_then_a_short_drop() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let (mut alice, first) = enters(&stage, &stage.person("alice").await).await;
    bob.says("before").await;
    alice.hears("before").await;
    stage.server.ages_by(23 * 3600).await;
    alice.drops().await;
    bob.says("missed").await;
    went_on(&first, &alice.connects().await);
    bob.says("after").await;
    alice.hears("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

/// No session is older than a day, so neither is what it left behind.
#[tokio::test]
async fn after_more_than_a_day_a_client_starts_anew() {
    let stage = Stage::opens().await;
    let (mut alice, first) = enters(&stage, &stage.person("alice").await).await;
    stage.server.ages_by(25 * 3600).await;
    alice.drops().await;
    let back = alice.connects().await;
    assert!(!back.recovered && back.id != first.id, "{first:?} {back:?}");
}

#[tokio::test]
async fn the_session_was_revoked_during_the_gap() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let person = stage.person("alice").await;
    let (mut alice, _) = enters(&stage, &person).await;
    alice.drops().await;
    person.logs_out().await;
    bob.says("not for her any more").await;
    alice.is_refused().await;
    assert_eq!(alice.texts(), [""; 0]);
}

/// Where the credentials are in CONNECT, the refusal is a CONNECT_ERROR with a code.
#[tokio::test]
async fn the_session_was_revoked_during_the_gap_of_a_client_with_a_token_in_connect() {
    let page = "http://page.example";
    let stage = Stage::opens_with(&["--allow-origin", page]).await;
    let person = stage.person("alice").await;
    let options = json!({
        "transports": ["websocket"],
        "auth": {"token": person.token()},
        "extraHeaders": {"Origin": page},
    });
    let mut alice = Puppet::of("alice", stage.server.address, "", &options);
    alice.connects().await;
    alice.drops().await;
    let back = alice.connects().await;
    assert!(back.recovered, "{back:?}");
    alice.drops().await;
    person.logs_out().await;
    let refused = alice.is_refused().await;
    assert_eq!(refused["data"]["code"], "unauthorized", "{refused}");
}

#[tokio::test]
async fn the_server_was_killed_and_restarted_in_the_gap() {
    let mut stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let (mut alice, first) = enters(&stage, &stage.person("alice").await).await;
    bob.says("before").await;
    alice.hears("before").await;
    alice.drops().await;
    bob.says("missed").await;
    stage.server.kill();
    stage.server.restart().await;
    went_on(&first, &alice.connects().await);
    let mut bob = bob.person.connects().await;
    bob.says("after").await;
    alice.hears("after").await;
    assert_eq!(alice.texts(), ["before", "missed", "after"]);
}

/// The crash is the drop, and the client comes back on its own, in its own time.
#[tokio::test]
async fn the_server_was_killed_and_the_client_comes_back_by_itself() {
    let mut stage = Stage::opens().await;
    let bob = stage.person("bob").await;
    let (mut alice, first) = enters(&stage, &stage.person("alice").await).await;
    bob.connects().await.says("before").await;
    alice.hears("before").await;
    stage.server.kill();
    alice.is_dropped().await;
    stage.server.restart().await;
    bob.connects().await.says("missed, or heard by a client that was quick").await;
    went_on(&first, &alice.is_connected().await);
    bob.connects().await.says("after").await;
    alice.hears("after").await;
    assert_eq!(alice.texts(), ["before", "missed, or heard by a client that was quick", "after"]);
}

#[tokio::test]
async fn as_many_missed_as_can_be_recovered() {
    let stage = Stage::opens_with(&["--message-rate", "10000", "--message-burst", "10000"]).await;
    let (mut alice, first) = enters(&stage, &stage.person("alice").await).await;
    alice.drops().await;
    let expected = says_many(&stage, MOST).await;
    went_on(&first, &alice.connects().await);
    alice.hears(expected.last().expect("many")).await;
    assert_eq!(alice.texts(), expected);
}

#[tokio::test]
async fn more_missed_than_can_be_recovered_and_the_client_reloads_the_history() {
    let stage = Stage::opens_with(&["--message-rate", "10000", "--message-burst", "10000"]).await;
    let (mut alice, first) = enters(&stage, &stage.person("alice").await).await;
    alice.drops().await;
    let expected = says_many(&stage, MOST + 1).await;
    let back = alice.connects().await;
    assert!(!back.recovered && back.id != first.id, "{first:?} {back:?}");
    alice.event("welcome").await;

    let mut known: Vec<String> = Vec::new();
    while known.len() < expected.len() {
        let answer = alice.asks("join", json!({"room": "lobby", "since": known.len()})).await;
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
async fn says_many(stage: &Stage, count: usize) -> Vec<String> {
    let mut bob = stage.enters("bob").await;
    let texts: Vec<String> = (1..=count).map(|n| format!("number {n}")).collect();
    // No more open at once than one socket may have.
    for some in texts.chunks(50) {
        let ids: Vec<u64> = some.iter().map(|text| bob.request("message", &json!({"text": text}))).collect();
        for id in ids {
            let ack = bob.answer(id).await;
            assert_eq!(ack["ok"], true, "{ack}");
        }
    }
    texts
}

/// Who came or went by a `presence:diff`.
fn names<'a>(diff: &'a Value, which: &str) -> Vec<&'a str> {
    diff[which].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
