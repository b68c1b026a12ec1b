//! Rooms: who may enter, who hears, who no longer does.

use serde_json::json;

use crate::stage::{Request, Stage, soon};

#[tokio::test]
async fn carol_who_left_the_room_hears_nothing() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut bob = stage.enters("bob").await;
    let mut carol = stage.enters("carol").await;
    alice.person.creates_room("den", false).await;
    for guest in [&mut alice, &mut bob, &mut carol] {
        guest.joins("den").await;
    }
    alice.says_in("den", "all of you").await;
    carol.hears("all of you").await;

    let left = carol.asks("leave", &json!({"room": "den"})).await;
    assert_eq!(left["ok"], true, "{left}");
    alice.says_in("den", "without carol").await;
    bob.hears("without carol").await;
    alice.says("fence").await;
    carol.hears("fence").await;
    assert!(!carol.has_heard("without carol"));

    let refused = carol.asks("message", &json!({"room": "den", "text": "let me"})).await;
    assert_eq!(refused["ok"], false, "{refused}");
}

#[tokio::test]
async fn those_in_the_room_learn_who_comes_and_goes() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut bob = stage.enters("bob").await;
    alice.person.creates_room("den", false).await;
    alice.joins("den").await;

    bob.joins("den").await;
    let came = alice.until("room:joined", |event| event["username"] == "bob").await;
    assert_eq!(came, json!({"room": "den", "username": "bob"}));
    bob.asks("leave", &json!({"room": "den"})).await;
    let went = alice.until("room:left", |event| event["username"] == "bob").await;
    assert_eq!(went, json!({"room": "den", "username": "bob"}));
}

#[tokio::test]
async fn a_private_room_is_closed_to_strangers_on_every_road() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut eve = stage.enters("eve").await;
    alice.person.creates_room("secret", true).await;
    alice.joins("secret").await;
    alice.says_in("secret", "between us").await;

    // Each answer is the same as for a room that does not exist.
    for (event, payload) in [
        ("join", json!({})),
        ("join", json!({"since": 0})),
        ("message", json!({"text": "hello"})),
        ("typing", json!({"isTyping": true})),
        ("history", json!({})),
        ("leave", json!({})),
    ] {
        let mut acks = Vec::new();
        for room in ["nowhere", "secret"] {
            let mut payload = payload.clone();
            payload["room"] = json!(room);
            acks.push(eve.asks(event, &payload).await);
        }
        assert!(acks[0]["code"] == "not_found" && acks[0] == acks[1], "{event} {payload}: {acks:?}");
    }
    for (method, path, body) in [
        ("GET", "", None),
        ("GET", "/messages", None),
        ("PATCH", "", Some(json!({"private": false}))),
        ("DELETE", "", None),
        ("PUT", "/members/eve", None),
        ("PUT", "/members/alice", None),
        ("DELETE", "/members/alice", None),
        ("POST", "/messages", Some(json!({"text": "hello"}))),
        ("POST", "/messages", Some(json!({"text": ""}))),
    ] {
        let mut answers = Vec::new();
        for room in ["nowhere", "secret"] {
            let request = Request::new(method, &format!("/rooms/{room}{path}"));
            let request = body.iter().fold(request, |request, body| request.json(body));
            let answer = eve.person.asks(request).await;
            answers.push((answer.status, answer.body));
        }
        assert!(answers[0].0 == 404 && answers[0] == answers[1], "{method} {path}: {answers:?}");
    }
    alice.asks("typing", &json!({"room": "secret", "isTyping": true})).await;
    let sees = async |person: &crate::stage::Person| {
        let typing = person.gets("/presence/typing").await.expect(200).json();
        typing["typing"].as_array().is_some_and(|users| users.contains(&json!("alice")))
    };
    soon("a member sees who types", async { while !sees(&alice.person).await {} }).await;
    assert!(!sees(&eve.person).await, "a stranger sees who types");
    alice.says("fence").await;
    eve.hears("fence").await;
    assert!(!eve.has_heard("between us"));
    assert_eq!(alice.person.reads_all("secret").await.len(), 1);
}

#[tokio::test]
async fn a_member_added_to_a_private_room_hears_and_a_removed_one_stops() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut bob = stage.enters("bob").await;
    let mut carol = stage.enters("carol").await;
    alice.person.creates_room("secret", true).await;
    alice.joins("secret").await;
    for (name, guest) in [("bob", &mut bob), ("carol", &mut carol)] {
        let added = alice.person.adds(name, "secret").await;
        assert!((200..300).contains(&added.status), "{added:?}");
        guest.joins("secret").await;
    }
    alice.says_in("secret", "the three of us").await;
    carol.hears("the three of us").await;

    let removed = alice.person.removes("carol", "secret").await;
    assert!((200..300).contains(&removed.status), "{removed:?}");
    alice.says_in("secret", "the two of us").await;
    bob.hears("the two of us").await;
    alice.says("fence").await;
    carol.hears("fence").await;
    assert!(!carol.has_heard("the two of us"));
    let history = carol.person.gets("/rooms/secret/messages").await;
    assert!([403, 404].contains(&history.status), "{history:?}");
}

#[tokio::test]
async fn only_the_owner_adds_removes_and_archives() {
    let stage = Stage::opens().await;
    let alice = stage.enters("alice").await;
    let bob = stage.enters("bob").await;
    let _carol = stage.person("carol").await;
    alice.person.creates_room("secret", true).await;
    alice.person.adds("bob", "secret").await;

    bob.person.adds("carol", "secret").await.expect_refusal(403);
    bob.person.removes("alice", "secret").await.expect_refusal(403);
    bob.person.asks(Request::new("DELETE", "/rooms/secret")).await.expect_refusal(403);

    let rooms = bob.person.gets("/rooms").await.expect(200).body;
    assert!(rooms.contains("secret"), "{rooms}");
    let archived = alice.person.asks(Request::new("DELETE", "/rooms/secret")).await;
    assert!((200..300).contains(&archived.status), "{archived:?}");
    let post = bob.person.posts("/rooms/secret/messages", &json!({"text": "anybody?"})).await;
    assert!((400..500).contains(&post.status), "{post:?}");
}

#[tokio::test]
async fn a_room_name_is_taken_once_and_must_be_a_name() {
    let stage = Stage::opens().await;
    let alice = stage.person("alice").await;
    let bob = stage.person("bob").await;
    alice.creates_room("den", false).await;
    bob.posts("/rooms", &json!({"name": "den"})).await.expect_refusal(409);
    for name in ["", "no room", "a/b", "ü", &"r".repeat(65)] {
        bob.posts("/rooms", &json!({"name": name})).await.expect_refusal(400);
    }
}

#[tokio::test]
async fn every_room_counts_for_itself() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    alice.person.creates_room("den", false).await;
    alice.joins("den").await;
    alice.says("one").await;
    alice.says("two").await;
    assert_eq!(alice.says_in("den", "first here").await["seq"], 1);
    assert_eq!(alice.says("three").await["seq"], 3);
}
