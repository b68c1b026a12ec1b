//! The store of a running server whose directory is removed or whose disk is full, and its clean stop.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{FILES, try_to_send};
use crate::support::{TestServer, with_timeout};

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
async fn a_server_whose_data_directory_is_removed_acks_nothing_and_ends() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.send_message("stored").await;
    fs::remove_dir_all(server.system.data_dir()).expect("a change");
    let sent = alice.request("message", &json!({"text": "lost"}));
    let status = with_timeout("the end of the server", server.system.wait_for_exit(0)).await;
    assert_eq!(status.code(), Some(1), "{}", server.system.log());
    let ack = alice.try_ack(sent).await;
    assert!(ack.is_none_or(|ack| ack["ok"] == false), "an ack of a lost message");
    server.system.wait_for_log("was removed while it was open").await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_one_works() {
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
