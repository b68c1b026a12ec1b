//! Privacy of private rooms: every request of a user who is not a member is answered as for a missing room, and no event, list or count
//! reveals its members or activity.

use serde_json::{Value, json};

use crate::support::{Client, DEADLINE, TestChat};

/// Requests about a room. The caller is `eve`, who is not a member.
const REQUESTS: [(&str, &str, &str); 18] = [
    ("GET", "/rooms/ROOM", ""),
    ("PATCH", "/rooms/ROOM", r#"{"private":false}"#),
    ("PATCH", "/rooms/ROOM", "{}"),
    ("PATCH", "/rooms/ROOM", "nonsense"),
    ("DELETE", "/rooms/ROOM", ""),
    ("PUT", "/rooms/ROOM/members/eve", ""),
    ("PUT", "/rooms/ROOM/members/carol", ""),
    ("PUT", "/rooms/ROOM/members/unregistered", ""),
    ("PUT", "/rooms/ROOM/members/bob", "nonsense"),
    ("DELETE", "/rooms/ROOM/members/eve", ""),
    ("DELETE", "/rooms/ROOM/members/bob", ""),
    ("DELETE", "/rooms/ROOM/members/unregistered", ""),
    ("GET", "/rooms/ROOM/messages", ""),
    ("GET", "/rooms/ROOM/messages?limit=1000", ""),
    ("GET", "/rooms/ROOM/messages?before=x", ""),
    ("POST", "/rooms/ROOM/messages", r#"{"text":"hi"}"#),
    ("POST", "/rooms/ROOM/messages", r#"{"text":""}"#),
    ("POST", "/rooms/ROOM/messages", "nonsense"),
];

/// Events about a room.
fn events(room: &str) -> [(&'static str, Value); 7] {
    [
        ("join", json!({"room": room})),
        ("join", json!({"room": room, "since": 0})),
        ("leave", json!({"room": room})),
        ("message", json!({"room": room, "text": "hi", "clientId": "one"})),
        ("typing", json!({"room": room, "isTyping": true})),
        ("history", json!({"room": room})),
        ("history", json!({"room": room, "before": 2, "limit": 1})),
    ]
}

/// Rooms that a user who is not a member must not see: private, ephemeral, archived, and left by its last member.
async fn private_rooms(server: &TestChat) -> [&'static str; 4] {
    for (room, ephemeral) in [("den", false), ("whisper", true), ("over", false), ("gone", false)] {
        let body = json!({"name": room, "private": true, "ephemeral": ephemeral});
        assert_eq!(server.http("alice", "POST", "/rooms", body).await.0, 201);
    }
    for room in ["den", "whisper"] {
        let added = server.http("alice", "PUT", &format!("/rooms/{room}/members/bob"), Value::Null).await;
        assert_eq!(added.0, 200);
    }
    assert_eq!(server.http("alice", "DELETE", "/rooms/over", Value::Null).await.0, 200);
    assert_eq!(server.http("alice", "DELETE", "/rooms/gone/members/alice", Value::Null).await.0, 200);
    ["den", "whisper", "over", "gone"]
}

#[actix_rt::test]
async fn a_private_room_is_answered_like_a_missing_room_to_non_members() {
    let limits = chat::Config { message_rate: 1_000, message_burst: 1_000, ..chat::Config::default() };
    let server = TestChat::with(limits).await;
    let rooms = private_rooms(&server).await;
    let mut eve = server.client("eve").await;
    for (method, path, body) in REQUESTS {
        let mut answers = Vec::new();
        for room in ["void", rooms[0], rooms[1], rooms[2], rooms[3]] {
            answers.push(server.http_text("eve", method, &path.replace("ROOM", room), body).await);
        }
        assert!((400..500).contains(&answers[0].0), "{method} {path} {body}: {:?}", answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{method} {path} {body}: {answers:?}");
    }
    for (index, (name, payload)) in events("void").into_iter().enumerate() {
        let absent = eve.ask(name, payload).await;
        assert_eq!(absent["code"], "not_found", "{name}: {absent}");
        for room in rooms {
            let (_, payload) = events(room)[index].clone();
            assert_eq!(eve.ask(name, payload).await, absent, "{name} {room}");
        }
    }
    let listed = server.http("eve", "GET", "/rooms", Value::Null).await.1;
    assert_eq!(listed["rooms"].as_array().map(Vec::len), Some(1), "{listed}");
}

/// Waits until `caller` sees `typist` typing over HTTP.
async fn wait_for_typing(server: &TestChat, caller: &str, typist: &str) {
    let seen = async {
        loop {
            let (_, answer) = server.http(caller, "GET", "/presence/typing", Value::Null).await;
            if answer["typing"].as_array().is_some_and(|users| users.contains(&json!(typist))) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("{caller} does not see {typist}"));
}

/// The typing users that `caller` receives over HTTP.
async fn typing(server: &TestChat, caller: &str) -> Value {
    server.http(caller, "GET", "/presence/typing", Value::Null).await.1["typing"].take()
}

async fn ask_ok(client: &mut Client, event: &str, payload: Value) {
    let done = client.ask(event, payload).await;
    assert_eq!(done["ok"], true, "{event}: {done}");
}

#[actix_rt::test]
async fn events_of_a_private_room_reach_only_its_members() {
    let server = TestChat::start().await;
    private_rooms(&server).await;
    let (mut alice, mut bob) = (server.client("alice").await, server.client("bob").await);
    let (mut carol, mut eve) = (server.client("carol").await, server.client("eve").await);
    server.create_room("tea", "carol", false).await;
    ask_ok(&mut alice, "message", json!({"room": "den", "text": "a secret"})).await;
    ask_ok(&mut alice, "typing", json!({"room": "den", "isTyping": true})).await;
    ask_ok(&mut carol, "typing", json!({"room": "tea", "isTyping": true})).await;
    ask_ok(&mut bob, "typing", json!({"isTyping": true})).await;
    // After the last of these waits the service has reported all typing users.
    wait_for_typing(&server, "bob", "alice").await;
    wait_for_typing(&server, "carol", "carol").await;
    wait_for_typing(&server, "eve", "bob").await;
    assert_eq!(typing(&server, "bob").await, json!(["alice", "bob"]));
    assert_eq!(typing(&server, "carol").await, json!(["bob", "carol"]), "typing members of a public room");
    assert_eq!(typing(&server, "eve").await, json!(["bob"]));
    // A removed member no longer sees typing in the room.
    ask_ok(&mut bob, "typing", json!({"room": "den", "isTyping": true})).await;
    assert_eq!(server.http("alice", "DELETE", "/rooms/den/members/bob", Value::Null).await.0, 200);
    assert_eq!(typing(&server, "bob").await, json!(["bob"]), "in the lobby");
    ask_ok(&mut bob, "typing", json!({"isTyping": false})).await;
    ask_ok(&mut bob, "leave", json!({"room": "whisper"})).await;
    assert_eq!(server.http("alice", "DELETE", "/rooms/den", Value::Null).await.0, 200);
    let received = eve.drain().await;
    for word in ["den", "whisper", "over", "gone", "secret"] {
        let names = |packet: &&String| packet.contains(&format!("\"{word}\"")) || packet.contains("a secret");
        assert_eq!(received.iter().filter(names).count(), 0, "{word}: {received:?}");
    }
}
