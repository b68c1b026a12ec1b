//! Backups: their content, their place, and incomplete ones.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{FILES, reconnect, text, tool};
use crate::support::TestServer;

#[tokio::test]
async fn a_backup_of_a_running_server_is_complete_and_later_positions_are_refused() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for number in 1..=5 {
        alice.send_message(&format!("stored {number}")).await;
    }
    let root = TempDir::new().expect("a temporary directory");
    let (data, copy) = (server.system.data_dir(), root.path().join("copy"));
    let made = tool("", &["backup", copy.to_str().expect("a UTF-8 path")], &data);
    assert!(made.status.success(), "{}", text(&made));
    let checked = tool("", &["check"], &data);
    assert!(checked.status.success(), "while the server runs: {}", text(&checked));
    for number in 6..=9 {
        alice.send_message(&format!("later {number}")).await;
    }
    let mut bob = server.connected_user("bob").await;
    alice.send_message("later 10").await;
    bob.receive_message("later 10").await;
    let epoch = bob.emit_with_ack("join", &json!({"room": "lobby"})).await["epoch"].clone();
    let (pid, offset, old) = (bob.pid.clone(), bob.offset.clone(), alice.user.token().to_owned());

    server.system.kill();
    fs::rename(&data, data.with_extension("old")).expect("a change");
    fs::rename(&copy, &data).expect("one filesystem");
    server.system.restart().await;
    alice.user.get("/user/me").await.expect_refusal(401);
    let mut user = alice.user.clone();
    user.log_in().await;
    assert_ne!(user.token(), old);
    let texts = |messages: &[Value]| {
        messages
            .iter()
            .map(|message| message["data"]["text"].as_str().expect("a text").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        texts(&user.read_history("lobby").await),
        (1..=5).map(|n| format!("stored {n}")).collect::<Vec<_>>()
    );

    // A user who registered after the backup registers again and sends a position of before the restore.
    bob.user.register().await;
    let mut bob = bob.user.clone();
    bob.log_in().await;
    let mut fresh = user.connect().await;
    let beyond = fresh.emit_with_ack("join", &json!({"room": "lobby", "since": 10})).await;
    assert_eq!(
        (&beyond["ok"], &beyond["reset"], &beyond["head"]),
        (&json!(true), &json!(true), &json!(5)),
        "{beyond}"
    );
    assert_eq!(texts(beyond["messages"].as_array().expect("messages")).len(), 5, "{beyond}");
    for number in 6..=12 {
        fresh.send_message(&format!("new {number}")).await;
    }
    let mut reconnected = reconnect(&bob, &pid, offset).await;
    assert_ne!(reconnected.pid, pid, "a position after the backup was accepted");
    let joined = reconnected.emit_with_ack("join", &json!({"room": "lobby", "since": 10})).await;
    assert!(epoch.is_string() && joined["epoch"].is_string(), "{joined}");
    assert_ne!(joined["epoch"], epoch, "a client sees by the epoch that it must load the room anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_during_writes_is_complete_and_contains_all_earlier_acked_messages() {
    let server = TestServer::start_with(&["--message-rate", "100000", "--message-burst", "100000"]).await;
    let mut writers = Vec::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for name in ["alice", "bob", "carol", "dave"] {
        let mut socket = server.connected_user(name).await;
        let stopped = stopped.clone();
        writers.push(tokio::spawn(async move {
            let mut sent = 0;
            while !*stopped.borrow() {
                let ids: Vec<u64> = (0..32)
                    .map(|n| socket.request("message", &json!({"text": format!("{sent} {n}")})))
                    .collect();
                for id in ids {
                    let ack = socket.try_ack(id).await.expect("an ack");
                    assert_eq!(ack["ok"], true, "{ack}");
                    sent += 1;
                }
            }
            sent
        }));
    }
    let reader = server.user("erin").await;
    let root = TempDir::new().expect("a temporary directory");
    let mut acked = 0;
    for round in 0..3 {
        let newest = reader.get("/rooms/lobby/messages?limit=1").await.json();
        acked = newest["messages"][0]["seq"].as_i64().unwrap_or_default().max(acked);
        let (data, to) = (server.system.data_dir(), root.path().join(format!("copy-{round}")));
        let made = tokio::task::spawn_blocking({
            let to = to.clone();
            move || tool("", &["backup", to.to_str().expect("a UTF-8 path")], &data)
        });
        let made = made.await.expect("no panic");
        assert!(made.status.success(), "round {round}: {}", text(&made));
        let conn = rusqlite::Connection::open(to.join(FILES[2])).expect("a copy");
        let shape = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let (count, last) =
            conn.query_row("SELECT count(*), max(seq) FROM messages", [], shape).expect("messages");
        assert!(
            count == last && last >= acked,
            "round {round}: {count} messages up to {last}, {acked} acked"
        );
    }
    stop.send(true).expect("running writers");
    let mut sent = 0;
    for writer in writers {
        sent += writer.await.expect("writers fail only by an assertion");
    }
    assert!(sent > 500, "only {sent} messages: this was no load");
}

#[tokio::test]
async fn a_backup_needs_an_empty_place_and_an_incomplete_one_starts_no_server() {
    let mut server = TestServer::start().await;
    server.connected_user("alice").await.send_message("stored").await;
    assert!(server.system.stop().await.success());
    let root = TempDir::new().expect("a temporary directory");
    let (data, to) = (server.system.data_dir(), root.path().join("a/new/place"));
    let back_up = || tool("", &["backup", to.to_str().expect("a UTF-8 path")], &data);
    fs::create_dir_all(&to).expect("a new directory");
    let made = back_up();
    assert!(made.status.success(), "of a stopped server: {}", text(&made));
    let again = back_up();
    assert!(!again.status.success() && text(&again).contains("it is not empty"), "{}", text(&again));
    let checked = tool("", &["check"], &to);
    assert!(
        checked.status.success() && text(&checked).contains("chat.sqlite3: messages: 1"),
        "{}",
        text(&checked)
    );
    // As a backup that was killed before its last step.
    fs::rename(to.join(FILES[0]), to.join("partial")).expect("a change");
    let refused = tool("timeout 20", &["seed"], &to);
    assert!(text(&refused).contains("users.sqlite3 is missing"), "{}", text(&refused));
    fs::remove_file(to.join(FILES[2])).expect("a change");
    fs::write(to.join(FILES[2]), "damaged").expect("a change");
    assert!(!tool("", &["check"], &to).status.success());
}
