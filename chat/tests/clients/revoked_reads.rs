//! Reads of a room that wait for the store while the membership of the reader ends: the answer contains nothing that was posted after the end.

use chat::Config;
use futures_util::future::join;
use serde_json::{Value, json};

use crate::support::{
    Client, TestChat,
    gated_directory::{Gate, READS},
};

/// A read of bob. `ROOM` is the name of the room.
#[derive(Debug, Clone, Copy)]
enum Read {
    /// An event with this payload.
    Event(&'static str, &'static str),
    /// A request of this path.
    Request(&'static str),
}

/// What happens to the room while the read waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    /// The owner adds another member.
    Unrelated,
    /// The owner removes bob.
    Removed,
    /// Bob leaves.
    Left,
    /// The owner archives the room.
    Archived,
}

use Meanwhile::{Archived, Left, Removed, Unrelated};

const READ: [Read; 8] = [
    Read::Event("history", r#"{"room": "ROOM"}"#),
    Read::Event("history", r#"{"room": "ROOM", "after": 1}"#),
    Read::Event("join", r#"{"room": "ROOM", "since": 0, "enter": false}"#),
    Read::Event("join", r#"{"room": "ROOM", "since": 1}"#),
    Read::Event("join", r#"{"room": "ROOM", "rev": 1, "enter": false}"#),
    Read::Request("/rooms/ROOM/messages?limit=10"),
    Read::Request("/rooms/ROOM/changes?since=0"),
    Read::Request("/rooms/ROOM/changes?rev=0"),
];

/// What happens meanwhile, and the status of the answer.
const MEANWHILE: [(Meanwhile, u16); 4] = [(Unrelated, 200), (Removed, 404), (Left, 404), (Archived, 404)];

/// Sends the request and waits for success.
async fn succeed(server: &TestChat, user: &str, method: &str, path: &str, body: Value) {
    let (status, answer) = server.http(user, method, path, body).await;
    assert!(status < 300, "{user} {method} {path}: {status} {answer}");
}

/// Changes the room. Afterwards its owner posts a message and adds a member whose names bob must not see.
async fn change(server: &TestChat, meanwhile: Meanwhile, owner: &str, room: &str) {
    let path = format!("/rooms/{room}");
    let bob = format!("{path}/members/bob");
    match meanwhile {
        Unrelated => {}
        Removed => succeed(server, owner, "DELETE", &bob, Value::Null).await,
        Left => succeed(server, "bob", "DELETE", &bob, Value::Null).await,
        Archived => return succeed(server, owner, "DELETE", &path, Value::Null).await,
    }
    succeed(server, owner, "POST", &format!("{path}/messages"), json!({"text": "later"})).await;
    succeed(server, owner, "PUT", &format!("{path}/members/later"), Value::Null).await;
}

/// Reads while the room changes. Returns the status of the answer and the answer.
async fn read(
    server: &TestChat,
    bob: &mut Client,
    read: Read,
    room: &str,
    meanwhile: impl Future<Output = ()>,
) -> (u16, Value) {
    match read {
        Read::Request(path) => {
            let path = path.replace("ROOM", room);
            join(server.http("bob", "GET", &path, Value::Null), meanwhile).await.0
        }
        Read::Event(event, payload) => {
            let payload = serde_json::from_str(&payload.replace("ROOM", room)).expect("a payload");
            let ack = bob.emit(event, payload).await;
            meanwhile.await;
            let answer = bob.ack(ack).await;
            let status = match answer["code"].as_str() {
                None => 200,
                Some("not_found") => 404,
                Some(other) => panic!("{other}: {answer}"),
            };
            (status, answer)
        }
    }
}

#[actix_rt::test]
async fn a_read_whose_reader_has_lost_the_membership_meanwhile_is_refused() {
    let gate = Gate::of(READS);
    let config = Config { message_burst: 1000, ..Config::default() };
    let server = TestChat::with_gated_reads(config, &gate).await;
    let mut bob = server.client("bob").await;
    for (number, request) in READ.into_iter().enumerate() {
        for (meanwhile, expected) in MEANWHILE {
            let (owner, room) = (format!("alice{number}"), format!("den-{number}-{meanwhile:?}"));
            let new = json!({"name": room, "private": true, "ephemeral": true});
            succeed(&server, &owner, "POST", "/rooms", new).await;
            succeed(&server, &owner, "PUT", &format!("/rooms/{room}/members/bob"), Value::Null).await;
            for text in ["first", "second"] {
                succeed(&server, &owner, "POST", &format!("/rooms/{room}/messages"), json!({"text": text}))
                    .await;
            }
            gate.close();
            let change = async {
                gate.wait_for_read().await;
                change(&server, meanwhile, &owner, &room).await;
                gate.open();
            };
            let (status, answer) = read(&server, &mut bob, request, &room, change).await;
            assert_eq!(status, expected, "{request:?} {meanwhile:?}: {answer}");
            let shows_later = answer.to_string().contains("later");
            assert_eq!(shows_later, meanwhile == Unrelated, "{request:?} {meanwhile:?}: {answer}");
        }
    }
}
