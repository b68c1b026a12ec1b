//! An older copy of the store in the place of a newer one.

use std::process::Command;

use super::reconnect;
use crate::support::TestServer;

/// A copy of a stopped store replaces newer data: positions of the newer history are refused, and revoked sessions stay revoked. A start
/// on the same files changes nothing.
#[tokio::test]
async fn a_restored_cold_copy_begins_a_new_history() {
    for restore in ["rm -r data && cp -a old data", "rm -f data/*-wal data/*-shm && cp -a old/. data"] {
        let mut server = TestServer::start().await;
        let mut alice = server.connected_user("alice").await;
        let mut bob = server.connected_user("bob").await;
        alice.send_message("old").await;
        bob.receive_message("old").await;
        let data = server.system.data_dir();
        let root = data.parent().expect("a directory above").to_owned();
        let name = data.file_name().expect("a name").to_string_lossy().into_owned();
        let run = |script: &str| {
            let script = script.replace("data", &name);
            let ran = Command::new("sh").arg("-c").arg(&script).current_dir(&root).status();
            assert!(ran.expect("a shell").success(), "{script}");
        };
        assert!(server.system.stop().await.success());
        run("rm -rf old && cp -a data old");
        server.system.restart().await;
        let mut user = bob.user.clone();
        user.get("/user/me").await.expect(200);
        let mut bob = reconnect(&user, &bob.pid, bob.offset.clone()).await;
        let mut alice = alice.user.connect().await;
        alice.send_message("lost").await;
        bob.receive_message("lost").await;
        let (pid, offset) = (bob.pid.clone(), bob.offset.clone());
        assert!(server.system.stop().await.success());
        run(restore);
        server.system.restart().await;
        user.get("/user/me").await.expect_refusal(401);
        user.log_in().await;
        let reconnected = reconnect(&user, &pid, offset).await;
        assert_ne!(reconnected.pid, pid, "{restore}: a position of another history was accepted");
    }
}
