//! Settings that change between two starts on the same data: stored data stays usable, and clients without a session see no difference.

use serde_json::{Value, json};

use crate::support::{Request, Socket, TestServer, TestUser};

/// The response to a login with a wrong password: status, body and names of the headers.
async fn refusal(user: &TestUser, name: &str) -> (u16, String, Vec<String>) {
    let body = json!({"username": name, "password": "not the password"});
    let answer = user.send(Request::post("/user/login", &body)).await;
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    (answer.status, answer.body, names)
}

/// A message to the room `one`; it exceeds the later text limit.
fn long_message(id: &str) -> Value {
    json!({"room": "one", "text": "b".repeat(1_500), "clientId": id})
}

/// Sends one message by a socket and one over HTTP, and returns both results.
async fn send_long_messages(alice: &TestUser) -> [Value; 2] {
    let by_socket = alice.connect().await.emit_with_ack("message", &long_message("s")).await;
    let by_http = alice.post("/rooms/one/messages", &long_message("h")).await.expect(201).json();
    [by_socket, by_http]
}

/// Sends each message again over the other way, which returns its first result. A new message is refused.
async fn check_repeats(alice: &TestUser, socket: &mut Socket, [by_socket, by_http]: [Value; 2]) {
    let again = socket.emit_with_ack("message", &long_message("h")).await;
    assert_eq!((&again["ok"], &again["id"], &again["seq"]), (&json!(true), &by_http["id"], &by_http["seq"]));
    let again = alice.post("/rooms/one/messages", &long_message("s")).await.expect(201).json();
    assert_eq!(
        (&json!(true), &again["id"], &again["seq"]),
        (&by_socket["ok"], &by_socket["id"], &by_socket["seq"])
    );
    assert_eq!(socket.emit_with_ack("message", &long_message("new")).await["code"], "too_large");
    alice.post("/rooms/one/messages", &long_message("new")).await.expect_refusal(413);
}

#[tokio::test]
async fn stored_data_stays_usable_after_stricter_settings() {
    let mut server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let long = "a".repeat(5_000);
    let rooms = ["one", "two", "three", "four"];
    for room in rooms {
        alice.create_room(room, true).await;
        alice.post(&format!("/rooms/{room}/messages"), &json!({"text": long})).await.expect(201);
    }
    let first = Box::pin(send_long_messages(&alice)).await;
    assert!(alice.add_member("bob", "one").await.status < 300);
    server.system.stop().await;
    for (flag, value) in [
        ("--bcrypt-cost", "6"),
        ("--rooms-per-user", "2"),
        ("--sockets-per-user", "1"),
        ("--text-limit", "1024"),
        ("--payload-limit", "2048"),
        ("--outbox-bytes", "140000"),
        ("--typing-expiry", "1s"),
        ("--node", "another-name"),
    ] {
        server.system.set_flag(flag, value);
    }
    server.system.restart().await;

    let mut socket = Box::pin(alice.connect()).await;
    for room in rooms {
        let (oldest, page) =
            (alice.read_history(room).await, socket.emit_with_ack("history", &json!({"room": room})).await);
        assert!(oldest.iter().any(|message| message["data"]["text"] == long.as_str()), "{oldest:?}");
        let has_long = |page: &Value| page["messages"].to_string().contains(&long);
        assert!(page["ok"] == true && has_long(&page), "{page}");
        assert_eq!(socket.send_message_to(room, "short").await["ok"], true);
    }
    assert_eq!(
        socket.emit_with_ack("message", &json!({"room": "one", "text": "a".repeat(1_500)})).await["code"],
        "too_large"
    );
    Box::pin(check_repeats(&alice, &mut socket, first)).await;
    assert_eq!(bob.read_history("one").await.len(), 4);
    let refused = alice.post("/rooms", &json!({"name": "five"})).await;
    assert!((400..500).contains(&refused.status), "{refused:?}");
    assert!(alice.remove_member("alice", "four").await.status < 300, "a user above a limit can leave");

    let eve = server.unregistered_user("eve");
    let seen = [refusal(&eve, "alice").await, refusal(&eve, "unknown").await];
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0, 401);
    alice.log_out().await;
    server.user_on_another_device("alice").await.get("/user/me").await.expect(200);
}
