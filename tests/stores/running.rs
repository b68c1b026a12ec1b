//! The store of a running server whose files are removed, locked by another program or at their size limit, and its clean stop.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{FILES, not_ready_reason, text, tool, try_to_send};
use crate::support::{Request, TestServer, with_timeout};

#[tokio::test]
async fn a_clean_stop_leaves_no_write_ahead_log() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.send_message("before the stop").await;
    let bob = server.user("bob").await;
    bob.log_out().await;
    assert!(server.system.stop().await.success());
    for name in FILES.iter().flat_map(|file| ["-wal", "-shm"].map(|suffix| format!("{file}{suffix}"))) {
        assert!(!server.system.data_dir().join(&name).exists(), "{name} still exists");
    }
}

#[tokio::test]
async fn a_store_without_its_files_acks_nothing_and_is_not_ready() {
    type Change = fn(&Path);
    // The change of the data directory, and the part of the message of `/readyz`.
    let changes: [(&str, &str, Change); 4] = [
        ("directory removed", "chat has lost its files", |data| fs::remove_dir_all(data).expect("a change")),
        ("directory renamed", "users has lost its files", |data| {
            fs::rename(data, data.with_extension("old")).expect("a change");
        }),
        ("sessions replaced", "sessions has lost its files", |data| {
            fs::copy(data.join(FILES[1]), data.join("x")).expect("a change");
            fs::rename(data.join("x"), data.join(FILES[1])).expect("a change");
        }),
        ("log removed", "chat has lost its files", |data| {
            fs::remove_file(data.join("chat.sqlite3-wal")).expect("a change");
        }),
    ];
    for (what, named, change) in changes {
        let server = TestServer::start().await;
        let mut alice = server.connected_user("alice").await;
        alice.send_message("stored").await;
        change(&server.system.data_dir());
        let reason = not_ready_reason(&server).await;
        assert!(reason.contains(named), "{what}: {reason}");
        let login = alice.user.send(Request::post("/user/login", &alice.user.credentials())).await;
        let ack = try_to_send(&mut alice, "lost").await;
        if named.starts_with("sessions") {
            assert_eq!((login.status, &ack["ok"]), (503, &json!(true)), "{what}: {login:?}");
        } else {
            assert_eq!((&ack["ok"], &ack["code"]), (&json!(false), &json!("unavailable")), "{what}: {ack}");
        }
    }
}

/// Takes the write lock of a file as another program, which is the process of the test.
fn lock(file: &Path) -> rusqlite::Connection {
    let program = rusqlite::Connection::open(file).expect("a store");
    program.busy_timeout(Duration::from_secs(10)).expect("a setting");
    program.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    program
}

#[tokio::test]
async fn a_lock_of_another_program_is_not_ready_and_logged_once_until_it_ends() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for (file, part) in FILES.into_iter().zip(["users", "sessions", "chat"]) {
        let program = lock(&server.system.data_dir().join(file));
        let register = json!({"username": format!("new{part}"), "password": "a long password"});
        let refused = match part {
            "users" => alice.user.send(Request::post("/user/register", &register)).await.status == 503,
            "sessions" => {
                alice.user.send(Request::post("/user/login", &alice.user.credentials())).await.status == 503
            }
            _ => try_to_send(&mut alice, "refused").await["code"] == json!("unavailable"),
        };
        assert!(refused, "{part}: a write is refused");
        let reason = not_ready_reason(&server).await;
        let expected = format!("{part} cannot be written: process {} (", std::process::id());
        assert!(reason.contains(&expected) && reason.contains(file), "{reason}");
        assert!(reason.contains("end its transaction") && reason.contains("(since 2"), "{reason}");
        let copy = TempDir::new().expect("a temporary directory");
        let to = copy.path().join("copy");
        let backup = tool("", &["backup", to.to_str().expect("UTF-8")], &server.system.data_dir());
        assert!(backup.status.success(), "{part}: a backup reads: {}", text(&backup));
        drop(program);
        with_timeout("ready", async {
            while !server.system.readiness(0).await.contains("ok") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        for line in ["writes are refused until the cause has ended", "the store can be written again"] {
            let line = format!("{line} store=\"{part}\"");
            server.system.wait_for_log(&line).await;
            let log = server.system.log();
            assert_eq!(log.matches(&line).count(), 1, "{line}:\n{log}");
        }
    }
    alice.send_message("accepted").await;
    assert!(!server.system.log().contains("a transaction failed"), "{}", server.system.log());
}

#[tokio::test]
async fn a_lock_of_another_program_during_the_end_and_the_start_loses_nothing() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.send_message("acked").await;
    for file in FILES {
        let data = server.system.data_dir();
        let program = lock(&data.join(file));
        assert!(server.system.stop().await.success(), "{file}");
        for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["seed"]] {
            let refused = tool("timeout 20", arguments, &data);
            let (code, printed) = (refused.status.code(), text(&refused));
            assert!(code.is_some_and(|code| code != 0 && code != 124), "{file}, {arguments:?}: {printed}");
            let named = printed.contains(&format!("process {} (", std::process::id()));
            assert!(named && printed.contains("end its transaction"), "{file}, {arguments:?}: {printed}");
        }
        drop(program);
        server.system.restart().await;
        assert_eq!(alice.user.read_history("lobby").await.len(), 1, "{file}");
    }
}

#[tokio::test]
async fn a_file_at_its_size_limit_refuses_writes_until_the_limit_is_raised() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.send_message("before").await;
    let limit = |bytes: &str| {
        let pid = server.system.pid().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}")]).status();
        assert!(set.expect("prlimit is installed").success());
    };
    limit("65536:unlimited");
    let (mut acked, mut refused) = (1, Value::Null);
    for _ in 0..8 {
        refused = try_to_send(&mut alice, &"x".repeat(8_000)).await;
        if refused["ok"] == false {
            break;
        }
        acked += 1;
    }
    assert_eq!(refused["code"], "unavailable", "{refused}");
    limit("unlimited:unlimited");
    alice.send_message("after").await;
    assert_eq!(alice.user.read_history("lobby").await.len(), acked + 1);
}
