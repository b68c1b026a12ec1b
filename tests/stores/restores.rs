//! An older copy of the store in the place of a newer one.

use std::{fs, process::Command};

use serde_json::json;

use super::{FILES, reconnect, text, tool};
use crate::support::{Request, Response, TestServer};

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

async fn register(server: &TestServer, name: &str) -> Response {
    let client = server.unregistered_user(name);
    client.send(Request::post("/user/register", &client.credentials())).await
}

/// The names of members and authors that an older file of users lacks are not given away: the start is refused, and after the loss is
/// accepted they stay taken.
#[tokio::test]
async fn users_older_than_the_chat_are_noticed_and_their_names_stay_taken() {
    // Whether the missing user is a member of a room, whether it is an author, and the number of starts since the copy.
    for (is_member, is_author, starts) in
        [(true, false, 1), (false, true, 1), (false, true, 2), (true, true, 2)]
    {
        let case = format!("member {is_member}, author {is_author}, {starts} starts");
        let mut server = TestServer::start().await;
        let alice = server.connected_user("alice").await;
        alice.user.create_room("secret", true).await;
        let data = server.system.data_dir();
        let old = data.with_file_name("old");
        assert!(server.system.stop().await.success());
        super::copy(&data, &old);
        server.system.restart().await;
        let mut late = server.connected_user("Late").await;
        if is_member {
            let mut alice = alice.user.clone();
            alice.log_in().await;
            alice.add_member("Late", "secret").await.expect(200);
        }
        if is_author {
            late.send_message("a text").await;
        }
        for _ in 1..starts {
            assert!(server.system.stop().await.success());
            server.system.restart().await;
        }
        assert!(server.system.stop().await.success());
        let whole = tool("", &["check"], &data);
        assert!(whole.status.success(), "{case}: {}", text(&whole));
        fs::copy(old.join(FILES[0]), data.join(FILES[0])).expect("a copy");

        let addresses =
            ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--presence-listen=127.0.0.1:0"];
        let arguments = [&["serve"], &addresses[..]].concat();
        for (before, arguments) in [("timeout 30", &arguments[..]), ("", &["check"])] {
            let refused = tool(before, arguments, &data);
            assert_eq!(refused.status.code(), Some(1), "{case}: {}", text(&refused));
            let words = if arguments.len() > 1 {
                &["users.sqlite3 is older than chat.sqlite3", "1 of the", "first is Late", "--accept-loss"][..]
            } else {
                &["Late", "no user"]
            };
            assert!(words.iter().all(|word| text(&refused).contains(word)), "{case}: {}", text(&refused));
        }
        let accepted = tool("", &["check", "--accept-loss"], &data);
        assert!(accepted.status.success(), "{case}: {}", text(&accepted));
        server.system.restart().await;
        let taken = register(&server, "alice").await.expect_refusal(409);
        for name in ["late", "LATE"] {
            assert_eq!(register(&server, name).await.expect_refusal(409).body, taken.body, "{case}: {name}");
        }
        let login = Request::post("/user/login", &late.user.credentials());
        late.user.send(login).await.expect_refusal(401);
        register(&server, "later").await.expect(201);
        alice.user.clone().log_in().await;
    }
}

/// While the server runs, the name of a member is taken without a user of that name.
#[tokio::test]
async fn the_name_of_a_member_without_a_user_is_taken() {
    let server = TestServer::start().await;
    let (alice, _member) = (server.user("alice").await, server.user("member").await);
    alice.create_room("secret", true).await;
    alice.add_member("member", "secret").await.expect(200);
    let users = rusqlite::Connection::open(server.system.data_dir().join(FILES[0])).expect("a store");
    assert_eq!(users.execute("DELETE FROM users WHERE key = 'member'", []).expect("a change"), 1);
    let taken = register(&server, "alice").await.expect_refusal(409);
    for name in ["member", "Member"] {
        assert_eq!(register(&server, name).await.expect_refusal(409).body, taken.body, "{name}");
    }
    register(&server, "members").await.expect(201);
}

/// An older file of sessions opens no closed session, and an older file of the chat continues no earlier position.
#[tokio::test]
async fn older_sessions_are_closed_and_an_older_chat_begins_a_new_epoch() {
    for file in &FILES[1..] {
        let mut server = TestServer::start().await;
        let alice = server.connected_user("alice").await;
        let mut user = server.user("bob").await;
        let data = server.system.data_dir();
        let old = data.with_file_name("old");
        assert!(server.system.stop().await.success());
        super::copy(&data, &old);
        server.system.restart().await;
        alice.user.log_out().await;
        let mut alice = alice.user.clone();
        let closed = alice.token().to_owned();
        alice.log_in().await;
        let mut bob = user.connect().await;
        alice.connect().await.send_message("lost").await;
        bob.receive_message("lost").await;
        let (pid, offset) = (bob.pid.clone(), bob.offset.clone());
        assert!(server.system.stop().await.success());
        fs::copy(old.join(file), data.join(file)).expect("a copy");
        server.system.restart().await;
        alice.token = Some(closed);
        alice.get("/user/me").await.expect_refusal(401);
        let is_chat = *file == FILES[2];
        assert_eq!(user.get("/user/me").await.status, if is_chat { 200 } else { 401 }, "{file}");
        user.log_in().await;
        let reconnected = reconnect(&user, &pid, offset).await;
        assert!(!is_chat || reconnected.pid != pid, "a position of another history was accepted");
        assert_eq!(user.post("/rooms/lobby/messages", &json!({"text": "new"})).await.status, 201, "{file}");
    }
}
