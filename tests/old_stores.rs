//! Stores of earlier releases: the files in `old_stores/` are what the release before the change log has written, as SQL. They open, keep
//! every row and its checksum, and the chat continues.

use std::{path::Path, process::Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{RoomState, TestServer, program};

const FILES: [(&str, &str); 3] = [
    ("users.sqlite3", include_str!("old_stores/users.sql")),
    ("sessions.sqlite3", include_str!("old_stores/sessions.sql")),
    ("chat.sqlite3", include_str!("old_stores/chat.sql")),
];

fn check(data: &Path) -> Output {
    program().arg("check").arg("--data-dir").arg(data).output().expect("the tool starts")
}

/// The `seq`, author and text of messages.
fn messages(messages: &[Value]) -> Vec<(u64, String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let row = |message: &Value| {
        (message["seq"].as_u64().expect("a number"), text(&message["from"]), text(&message["data"]["text"]))
    };
    messages.iter().map(row).collect()
}

#[tokio::test]
async fn a_store_of_the_release_before_the_change_log_keeps_its_rows_and_gets_the_log() {
    let root = TempDir::new().expect("a temporary directory");
    let data = root.path().join("data");
    std::fs::create_dir(&data).expect("a new directory");
    for (name, sql) in FILES {
        let conn = rusqlite::Connection::open(data.join(name)).expect("a file");
        // The tables are in alphabetical order, not in that of their references.
        conn.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA journal_mode = WAL;").expect("an empty file");
        conn.execute_batch(sql).expect("a store");
    }
    assert!(check(&data).status.success(), "{:?}", check(&data));
    let mut server = TestServer::start().await;
    assert!(server.system.stop().await.success());
    server.system.set_flag("--data-dir", data.to_str().expect("a UTF-8 path"));
    server.system.restart().await;

    let mut alice = server.unregistered_user("alice");
    alice.password = "correct-horse-alice".to_owned();
    alice.log_in().await;
    let row = |seq, from: &str, text: &str| (seq, from.to_owned(), text.to_owned());
    let stored = [
        ("lobby", vec![row(1, "alice", "hello"), row(2, "bob", "bye")]),
        ("tea", vec![row(1, "alice", "tea? \\u{1F375}"), row(2, "bob", "yes")]),
        ("den", vec![row(1, "alice", "secret")]),
    ];
    for (room, expected) in &stored {
        assert_eq!(messages(&alice.read_history(room).await), *expected, "{room}");
    }
    let members =
        async |room: &str| alice.get(&format!("/rooms/{room}")).await.expect(200).json()["members"].clone();
    let role = |name: &str, role: &str| json!({"username": name, "role": role});
    assert_eq!(members("tea").await, json!([role("alice", "owner"), role("bob", "member")]));
    assert_eq!(members("den").await, json!([role("alice", "owner"), role("carol", "member")]));
    alice.post("/rooms", &json!({"name": "short"})).await.expect(201);

    // Rooms that existed before begin at change 1. A client that has no number loads them anew.
    let mut socket = alice.connect().await;
    let joined = socket.emit_with_ack("join", &json!({"room": "tea", "rev": 0, "since": 1})).await;
    assert_eq!(
        (&joined["reset"], &joined["rev"], &joined["head"]),
        (&json!(true), &json!(1), &json!(2)),
        "{joined}"
    );
    let mut state = RoomState::at(&joined);
    alice.remove_member("bob", "tea").await.expect(200);
    assert!(state.apply(&socket.until("change", |change| change["room"] == "tea").await));
    assert_eq!((state.rev, state.members.len()), (2, 0));
    assert_eq!(socket.send_message_to("tea", "still here").await["seq"], 3);
    assert!(server.system.stop().await.success());
    assert!(check(&data).status.success(), "{:?}", check(&data));
}
