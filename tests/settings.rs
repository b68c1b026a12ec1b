//! Settings that change between two starts on the same data: what is stored stays usable, and strangers see no difference.

use serde_json::json;

use crate::stage::{Person, Request, Stage};

/// What a stranger sees of a login with a wrong password.
async fn refusal(person: &Person, name: &str) -> (u16, String, Vec<String>) {
    let body = json!({"username": name, "password": "not the password"});
    let answer = person.sends(Request::post("/user/login", &body)).await;
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    (answer.status, answer.body, names)
}

#[tokio::test]
async fn what_is_stored_outlives_stricter_settings() {
    let mut stage = Stage::opens().await;
    let (alice, bob) = (stage.person("alice").await, stage.person("bob").await);
    let long = "a".repeat(5_000);
    let rooms = ["one", "two", "three", "four"];
    for room in rooms {
        alice.creates_room(room, true).await;
        alice.posts(&format!("/rooms/{room}/messages"), &json!({"text": long})).await.expect(201);
    }
    assert!(alice.adds("bob", "one").await.status < 300);
    stage.server.is_asked_to_stop().await;
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
        stage.server.is_set(flag, value);
    }
    stage.server.restart().await;

    let mut socket = alice.connects().await;
    for room in rooms {
        assert_eq!(alice.reads_all(room).await[0]["data"]["text"], long.as_str());
        let page = socket.asks("history", &json!({"room": room})).await;
        assert_eq!((&page["ok"], &page["messages"][0]["data"]["text"]), (&json!(true), &json!(long)));
        assert_eq!(socket.says_in(room, "short").await["ok"], true);
    }
    assert_eq!(
        socket.asks("message", &json!({"room": "one", "text": "a".repeat(1_500)})).await["code"],
        "too_large"
    );
    assert_eq!(bob.reads_all("one").await.len(), 2);
    let refused = alice.posts("/rooms", &json!({"name": "five"})).await;
    assert!((400..500).contains(&refused.status), "{refused:?}");
    assert!(alice.removes("alice", "four").await.status < 300, "who is over a limit can leave");

    let eve = stage.stranger("eve");
    let seen = [refusal(&eve, "alice").await, refusal(&eve, "nobody").await];
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0, 401);
    alice.logs_out().await;
    stage.person_again("alice").await.gets("/user/me").await.expect(200);
}
