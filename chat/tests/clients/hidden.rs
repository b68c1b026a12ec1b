//! What strangers see of a private room: nothing. Whatever they ask of it is answered as for a room that does not exist, and no event,
//! list or count shows who is in it or what happens there.

use serde_json::{Value, json};

use crate::parlor::{Client, DEADLINE, Parlor};

/// Requests about a room, with the stranger `eve` as the caller.
const REQUESTS: [(&str, &str, &str); 19] = [
    ("GET", "/rooms/ROOM", ""),
    ("PATCH", "/rooms/ROOM", r#"{"private":false}"#),
    ("PATCH", "/rooms/ROOM", "{}"),
    ("PATCH", "/rooms/ROOM", "nonsense"),
    ("DELETE", "/rooms/ROOM", ""),
    ("PUT", "/rooms/ROOM/members/eve", ""),
    ("PUT", "/rooms/ROOM/members/eve", r#"{"role":"owner"}"#),
    ("PUT", "/rooms/ROOM/members/carol", ""),
    ("PUT", "/rooms/ROOM/members/nobody", ""),
    ("PUT", "/rooms/ROOM/members/bob", "nonsense"),
    ("DELETE", "/rooms/ROOM/members/eve", ""),
    ("DELETE", "/rooms/ROOM/members/bob", ""),
    ("DELETE", "/rooms/ROOM/members/nobody", ""),
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

/// Rooms that are there and are nothing to a stranger: private, ephemeral, archived, and left by its last member.
async fn private_rooms(parlor: &Parlor) -> [&'static str; 4] {
    for (room, ephemeral) in [("den", false), ("whisper", true), ("over", false), ("gone", false)] {
        let body = json!({"name": room, "private": true, "ephemeral": ephemeral});
        assert_eq!(parlor.http("alice", "POST", "/rooms", body).await.0, 201);
    }
    for room in ["den", "whisper"] {
        let added = parlor.http("alice", "PUT", &format!("/rooms/{room}/members/bob"), Value::Null).await;
        assert_eq!(added.0, 200);
    }
    assert_eq!(parlor.http("alice", "DELETE", "/rooms/over", Value::Null).await.0, 200);
    assert_eq!(parlor.http("alice", "DELETE", "/rooms/gone/members/alice", Value::Null).await.0, 200);
    ["den", "whisper", "over", "gone"]
}

#[actix_rt::test]
async fn a_private_room_is_to_strangers_as_one_that_does_not_exist() {
    let limits = chat::Config { message_rate: 1_000, message_burst: 1_000, ..chat::Config::default() };
    let parlor = Parlor::with(limits).await;
    let rooms = private_rooms(&parlor).await;
    let mut eve = parlor.client("eve").await;
    for (method, path, body) in REQUESTS {
        let mut asked = Vec::new();
        for room in ["void", rooms[0], rooms[1], rooms[2], rooms[3]] {
            asked.push(parlor.http_text("eve", method, &path.replace("ROOM", room), body).await);
        }
        assert!((400..500).contains(&asked[0].0), "{method} {path} {body}: {:?}", asked[0]);
        assert!(asked.iter().all(|answer| *answer == asked[0]), "{method} {path} {body}: {asked:?}");
    }
    for (index, (name, payload)) in events("void").into_iter().enumerate() {
        let absent = eve.ask(name, payload).await;
        assert_eq!(absent["code"], "not_found", "{name}: {absent}");
        for room in rooms {
            let (_, payload) = events(room)[index].clone();
            assert_eq!(eve.ask(name, payload).await, absent, "{name} {room}");
        }
    }
    let listed = parlor.http("eve", "GET", "/rooms", Value::Null).await.1;
    assert_eq!(listed["rooms"].as_array().map(Vec::len), Some(1), "{listed}");
}

/// Waits until this user is shown typing over HTTP to `caller`.
async fn shown(parlor: &Parlor, caller: &str, typist: &str) {
    let seen = async {
        loop {
            let (_, answer) = parlor.http(caller, "GET", "/presence/typing", Value::Null).await;
            if answer["typing"].as_array().is_some_and(|users| users.contains(&json!(typist))) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("{caller} does not see {typist}"));
}

/// The list of typing users that `caller` gets.
async fn typing(parlor: &Parlor, caller: &str) -> Value {
    parlor.http(caller, "GET", "/presence/typing", Value::Null).await.1["typing"].take()
}

async fn does(client: &mut Client, event: &str, payload: Value) {
    let done = client.ask(event, payload).await;
    assert_eq!(done["ok"], true, "{event}: {done}");
}

#[actix_rt::test]
async fn what_happens_in_a_private_room_reaches_its_members_only() {
    let parlor = Parlor::open().await;
    private_rooms(&parlor).await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
    let (mut carol, mut eve) = (parlor.client("carol").await, parlor.client("eve").await);
    parlor.room("tea", "carol", false).await;
    does(&mut alice, "message", json!({"room": "den", "text": "a secret"})).await;
    does(&mut alice, "typing", json!({"room": "den", "isTyping": true})).await;
    does(&mut carol, "typing", json!({"room": "tea", "isTyping": true})).await;
    does(&mut bob, "typing", json!({"isTyping": true})).await;
    // The last of these waits ends when the service has reported all typists.
    shown(&parlor, "bob", "alice").await;
    shown(&parlor, "carol", "carol").await;
    shown(&parlor, "eve", "bob").await;
    assert_eq!(typing(&parlor, "bob").await, json!(["alice", "bob"]));
    assert_eq!(typing(&parlor, "carol").await, json!(["bob", "carol"]), "of a public room its members");
    assert_eq!(typing(&parlor, "eve").await, json!(["bob"]));
    // A removed member sees nothing more of the room.
    does(&mut bob, "typing", json!({"room": "den", "isTyping": true})).await;
    assert_eq!(parlor.http("alice", "DELETE", "/rooms/den/members/bob", Value::Null).await.0, 200);
    assert_eq!(typing(&parlor, "bob").await, json!(["bob"]), "by the lobby");
    does(&mut bob, "typing", json!({"isTyping": false})).await;
    does(&mut bob, "leave", json!({"room": "whisper"})).await;
    assert_eq!(parlor.http("alice", "DELETE", "/rooms/den", Value::Null).await.0, 200);
    let heard = eve.rest().await;
    for word in ["den", "whisper", "over", "gone", "secret"] {
        let names = |packet: &&String| packet.contains(&format!("\"{word}\"")) || packet.contains("a secret");
        assert_eq!(heard.iter().filter(names).count(), 0, "{word}: {heard:?}");
    }
}
