//! Rooms as clients live them: entering, leaving, being added and removed, and who hears what meanwhile.

mod parlor;

use chat::Config;
use parlor::{Parlor, gated::Gate};
use serde_json::{Value, json};

#[actix_rt::test]
async fn a_room_is_entered_spoken_in_and_left_in_the_order_asked() {
    let parlor = Parlor::open().await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
    parlor.room("tea", "alice", false).await;
    alice.event("room:joined").await;
    let acks = [
        bob.emit("message", json!({"text": "too early", "room": "tea"})).await,
        bob.emit("join", json!({"room": "tea"})).await,
        bob.emit("message", json!({"text": "tea?", "room": "tea"})).await,
        bob.emit("leave", json!({"room": "tea"})).await,
        bob.emit("message", json!({"text": "too late", "room": "tea"})).await,
    ];
    assert_eq!(bob.ack(acks[0]).await["code"], "forbidden");
    assert_eq!(bob.ack(acks[1]).await, json!({"ok": true, "head": 0, "messages": []}));
    assert_eq!(bob.ack(acks[2]).await["seq"], 1);
    assert_eq!(bob.ack(acks[3]).await, json!({"ok": true}));
    assert_eq!(bob.ack(acks[4]).await["code"], "forbidden");
    assert_eq!(alice.event("room:joined").await[0], json!({"room": "tea", "username": "bob"}));
    assert_eq!(alice.hears().await, "tea?");
    assert_eq!(alice.event("room:left").await[0], json!({"room": "tea", "username": "bob"}));
    alice.ask("message", json!({"text": "gone?", "room": "tea"})).await;
    alice.ask("message", json!({"text": "ah", "room": "lobby"})).await;
    assert_eq!(bob.hears().await, "ah", "who left hears nothing");
}

#[actix_rt::test]
async fn a_private_room_is_not_there_for_strangers() {
    let parlor = Parlor::open().await;
    let (mut alice, mut eve) = (parlor.client("alice").await, parlor.client("eve").await);
    parlor.room("den", "alice", true).await;
    for (event, payload) in [
        ("join", json!({"room": "den"})),
        ("message", json!({"text": "x", "room": "den"})),
        ("history", json!({"room": "den"})),
        ("leave", json!({"room": "den"})),
        ("typing", json!({"isTyping": true, "room": "den"})),
    ] {
        let mut nowhere = payload.clone();
        nowhere["room"] = json!("nowhere");
        let refused = eve.ask(event, payload).await;
        assert_eq!(refused["code"], "not_found", "{event}");
        assert_eq!(eve.ask(event, nowhere).await, refused, "{event}: no difference to be seen");
    }
    assert_eq!(alice.ask("message", json!({"text": "mine", "room": "den"})).await["ok"], true);
    assert!(eve.rest().await.iter().all(|packet| !packet.starts_with("42[\"message\"")));
}

#[actix_rt::test]
async fn a_member_who_is_removed_hears_no_more_and_one_who_is_added_does_at_once() {
    let parlor = Parlor::open().await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
    parlor.room("den", "alice", true).await;
    let member = "/rooms/den/members/bob";
    assert_eq!(parlor.http("alice", "PUT", member, Value::Null).await.0, 200);
    assert_eq!(bob.event("room:joined").await[0]["username"], "bob");
    alice.ask("message", json!({"text": "welcome", "room": "den"})).await;
    assert_eq!(bob.hears().await, "welcome");
    assert_eq!(parlor.http("alice", "DELETE", member, Value::Null).await.0, 200);
    assert_eq!(bob.event("room:left").await[0]["username"], "bob");
    alice.ask("message", json!({"text": "secret", "room": "den"})).await;
    alice.ask("message", json!({"text": "open"})).await;
    assert_eq!(bob.hears().await, "open");
    assert_eq!(bob.ask("history", json!({"room": "den"})).await["code"], "not_found");
}

#[actix_rt::test]
async fn a_room_is_live_for_a_socket_that_comes_later_and_since_closes_the_gap() {
    let parlor = Parlor::open().await;
    parlor.room("tea", "alice", false).await;
    let mut alice = parlor.client("alice").await;
    for n in 1..=3 {
        alice.ask("message", json!({"text": n.to_string(), "room": "tea"})).await;
    }
    let mut bob = parlor.client("bob").await;
    let joined = bob.ask("join", json!({"room": "tea", "since": 1})).await;
    let texts: Vec<_> =
        joined["messages"].as_array().unwrap().iter().map(|m| m["data"]["text"].clone()).collect();
    assert_eq!((texts, &joined["head"]), (vec![json!("2"), json!("3")], &json!(3)));
    let mut late = parlor.client("bob").await;
    alice.ask("message", json!({"text": "4", "room": "tea"})).await;
    assert_eq!((bob.hears().await, late.hears().await), ("4".into(), "4".into()));
    let page = bob.ask("history", json!({"room": "tea", "limit": 2})).await;
    assert_eq!(
        (&page["ok"], &page["messages"][0]["seq"], &page["next"]),
        (&json!(true), &json!(4), &json!(3))
    );
}

#[actix_rt::test]
async fn who_is_removed_while_coming_in_does_not_hear() {
    let gate = Gate::of("bob");
    let parlor = Parlor::with_directory(Config::default(), |directory| gate.before(directory)).await;
    parlor.room("den", "alice", true).await;
    let mut alice = parlor.client("alice").await;
    let member = "/rooms/den/members/bob";
    assert_eq!(parlor.http("alice", "PUT", member, Value::Null).await.0, 200);
    let login = parlor.login("bob").await;
    let removed = async {
        gate.was_read().await;
        assert_eq!(parlor.http("alice", "DELETE", member, Value::Null).await.0, 200);
        gate.open();
    };
    let (mut bob, ()) = futures_util::join!(parlor.enter(&login), removed);
    alice.ask("message", json!({"text": "secret", "room": "den"})).await;
    alice.ask("message", json!({"text": "open"})).await;
    assert_eq!(bob.hears().await, "open");
}

#[actix_rt::test]
async fn who_is_added_while_coming_in_hears() {
    let gate = Gate::of("bob");
    let parlor = Parlor::with_directory(Config::default(), |directory| gate.before(directory)).await;
    parlor.room("den", "alice", true).await;
    let mut alice = parlor.client("alice").await;
    let login = parlor.login("bob").await;
    let added = async {
        gate.was_read().await;
        assert_eq!(parlor.http("alice", "PUT", "/rooms/den/members/bob", Value::Null).await.0, 200);
        gate.open();
    };
    let (mut bob, ()) = futures_util::join!(parlor.enter(&login), added);
    alice.ask("message", json!({"text": "welcome", "room": "den"})).await;
    assert_eq!(bob.hears().await, "welcome");
}

#[actix_rt::test]
async fn an_archived_room_is_left_by_everybody() {
    let parlor = Parlor::open().await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
    parlor.room("tea", "alice", false).await;
    bob.ask("join", json!({"room": "tea"})).await;
    assert_eq!(parlor.http("alice", "DELETE", "/rooms/tea", Value::Null).await.0, 200);
    assert_eq!(bob.event("room:left").await[0], json!({"room": "tea", "username": "bob"}));
    assert_eq!(alice.event("room:left").await[0], json!({"room": "tea", "username": "alice"}));
    assert_eq!(alice.ask("message", json!({"text": "x", "room": "tea"})).await["code"], "not_found");
    assert_eq!(bob.ask("join", json!({"room": "tea"})).await["code"], "not_found");
    assert_eq!(bob.ask("typing", json!({"isTyping": true, "room": "tea"})).await["code"], "not_found");
}

#[actix_rt::test]
async fn nobody_leaves_the_lobby_and_joining_it_changes_nothing() {
    let parlor = Parlor::open().await;
    let mut alice = parlor.client("alice").await;
    assert_eq!(alice.ask("leave", json!({"room": "lobby"})).await["code"], "forbidden");
    assert_eq!(
        alice.ask("join", json!({"room": "lobby"})).await,
        json!({"ok": true, "head": 0, "messages": []})
    );
    assert!(alice.rest().await.iter().all(|packet| !packet.contains("room:joined")));
}

#[actix_rt::test]
async fn joining_while_others_speak_leaves_no_gap() {
    let parlor = Parlor::open().await;
    parlor.room("tea", "alice", false).await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
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
