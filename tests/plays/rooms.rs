//! Rooms: membership, delivery, permissions.

use serde_json::json;

use crate::support::{Request, TestServer, with_timeout};

#[tokio::test]
async fn a_member_who_left_a_room_receives_no_later_message() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    let mut carol = server.connected_user("carol").await;
    alice.user.create_room("den", false).await;
    for member in [&mut alice, &mut bob, &mut carol] {
        member.join("den").await;
    }
    alice.send_message_to("den", "all of you").await;
    carol.receive_message("all of you").await;

    let left = carol.emit_with_ack("leave", &json!({"room": "den"})).await;
    assert_eq!(left["ok"], true, "{left}");
    alice.send_message_to("den", "without carol").await;
    bob.receive_message("without carol").await;
    alice.send_message("fence").await;
    carol.receive_message("fence").await;
    assert!(!carol.has_received("without carol"));

    let refused = carol.emit_with_ack("message", &json!({"room": "den", "text": "let me"})).await;
    assert_eq!(refused["ok"], false, "{refused}");
}

#[tokio::test]
async fn members_receive_joins_and_leaves() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    alice.user.create_room("den", false).await;
    alice.join("den").await;

    bob.join("den").await;
    let joined = alice.until("room:joined", |event| event["username"] == "bob").await;
    assert_eq!(joined, json!({"room": "den", "username": "bob", "rev": 2, "role": "member"}));
    bob.emit_with_ack("leave", &json!({"room": "den"})).await;
    let left = alice.until("room:left", |event| event["username"] == "bob").await;
    assert_eq!(left, json!({"room": "den", "username": "bob", "rev": 3}));
}

#[tokio::test]
async fn a_private_room_is_indistinguishable_from_a_missing_room_for_other_users() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut eve = server.connected_user("eve").await;
    alice.user.create_room("secret", true).await;
    alice.join("secret").await;
    alice.send_message_to("secret", "between us").await;

    // Each response is the same as for a room that does not exist.
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
            acks.push(eve.emit_with_ack(event, &payload).await);
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
            let answer = eve.user.request(request).await;
            answers.push((answer.status, answer.body));
        }
        assert!(answers[0].0 == 404 && answers[0] == answers[1], "{method} {path}: {answers:?}");
    }
    alice.emit_with_ack("typing", &json!({"room": "secret", "isTyping": true})).await;
    let reads_typing = async |user: &crate::support::TestUser| {
        let typing = user.get("/presence/typing").await.expect(200).json();
        typing["typing"].as_array().is_some_and(|users| users.contains(&json!("alice")))
    };
    with_timeout("a member to read who is typing", async { while !reads_typing(&alice.user).await {} }).await;
    assert!(!reads_typing(&eve.user).await, "another user reads who is typing");
    alice.send_message("fence").await;
    eve.receive_message("fence").await;
    assert!(!eve.has_received("between us"));
    assert_eq!(alice.user.read_history("secret").await.len(), 1);
}

#[tokio::test]
async fn an_added_member_of_a_private_room_receives_messages_and_a_removed_member_does_not() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    let mut carol = server.connected_user("carol").await;
    alice.user.create_room("secret", true).await;
    alice.join("secret").await;
    for (name, member) in [("bob", &mut bob), ("carol", &mut carol)] {
        let added = alice.user.add_member(name, "secret").await;
        assert!((200..300).contains(&added.status), "{added:?}");
        member.join("secret").await;
    }
    alice.send_message_to("secret", "the three of us").await;
    carol.receive_message("the three of us").await;

    let removed = alice.user.remove_member("carol", "secret").await;
    assert!((200..300).contains(&removed.status), "{removed:?}");
    alice.send_message_to("secret", "the two of us").await;
    bob.receive_message("the two of us").await;
    alice.send_message("fence").await;
    carol.receive_message("fence").await;
    assert!(!carol.has_received("the two of us"));
    let history = carol.user.get("/rooms/secret/messages").await;
    assert!([403, 404].contains(&history.status), "{history:?}");
}

#[tokio::test]
async fn only_the_owner_adds_and_removes_members_and_archives_the_room() {
    let server = TestServer::start().await;
    let alice = server.connected_user("alice").await;
    let bob = server.connected_user("bob").await;
    let _carol = server.user("carol").await;
    alice.user.create_room("secret", true).await;
    alice.user.add_member("bob", "secret").await;

    bob.user.add_member("carol", "secret").await.expect_refusal(403);
    bob.user.remove_member("alice", "secret").await.expect_refusal(403);
    bob.user.request(Request::new("DELETE", "/rooms/secret")).await.expect_refusal(403);

    let rooms = bob.user.get("/rooms").await.expect(200).body;
    assert!(rooms.contains("secret"), "{rooms}");
    let archived = alice.user.request(Request::new("DELETE", "/rooms/secret")).await;
    assert!((200..300).contains(&archived.status), "{archived:?}");
    let post = bob.user.post("/rooms/secret/messages", &json!({"text": "after the archival"})).await;
    assert!((400..500).contains(&post.status), "{post:?}");
}

#[tokio::test]
async fn a_room_name_is_unique_and_valid() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    alice.create_room("den", false).await;
    bob.post("/rooms", &json!({"name": "den"})).await.expect_refusal(409);
    for name in ["", "no room", "a/b", "ü", &"r".repeat(65)] {
        bob.post("/rooms", &json!({"name": name})).await.expect_refusal(400);
    }
}

#[tokio::test]
async fn every_room_has_its_own_sequence_numbers() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.user.create_room("den", false).await;
    alice.join("den").await;
    alice.send_message("one").await;
    alice.send_message("two").await;
    assert_eq!(alice.send_message_to("den", "first here").await["seq"], 1);
    assert_eq!(alice.send_message("three").await["seq"], 3);
}
