//! The store of a running server whose directory is removed, and its clean stop.

use std::fs;

use serde_json::json;

use super::FILES;
use crate::support::TestServer;

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
async fn a_server_whose_data_directory_is_removed_acks_nothing_and_is_not_ready() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    alice.send_message("stored").await;
    fs::remove_dir_all(server.system.data_dir()).expect("a change");
    for _ in 0..3 {
        let ack = alice.emit_with_ack("message", &json!({"text": "lost", "clientId": "one"})).await;
        assert_eq!(ack["code"], "unavailable", "{ack}");
    }
    let body = server.system.readiness(0).await;
    assert!(!body.contains("\"ok\""), "{body}");
}
