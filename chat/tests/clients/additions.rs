//! Limits for users who add other users to rooms. A user who has left is not added again by the same user.

use chat::Config;
use serde_json::{Value, json};

use crate::support::TestChat;

fn config() -> Config {
    Config { rooms_per_user: 3, additions_per_user: 4, message_burst: 1000, ..Config::default() }
}

async fn add_member(server: &TestChat, by: &str, room: &str, user: &str) -> (u16, String) {
    let path = format!("/rooms/{room}/members/{user}");
    let (status, answer) = server.http(by, "PUT", &path, Value::Null).await;
    (status, answer["message"].as_str().unwrap_or_default().to_owned())
}

#[actix_rt::test]
async fn a_user_who_has_left_is_not_added_again_until_they_join() {
    let server = TestChat::with(config()).await;
    server.create_room("tea", "eve", false).await;
    assert_eq!(add_member(&server, "eve", "tea", "bob").await.0, 200);
    let (status, _) = server.http("bob", "DELETE", "/rooms/tea/members/bob", Value::Null).await;
    assert_eq!(status, 200);
    let (status, message) = add_member(&server, "eve", "tea", "bob").await;
    assert_eq!(status, 403);
    assert!(message.contains("has left this room"), "{message}");
    let mut bob = server.client("bob").await;
    assert_eq!(bob.ask("join", json!({"room": "tea"})).await["ok"], true);
    assert_eq!(bob.ask("leave", json!({"room": "tea"})).await["ok"], true);
    assert_eq!(
        add_member(&server, "eve", "tea", "bob").await.0,
        200,
        "the user had joined by themselves in between"
    );
}

#[actix_rt::test]
async fn additions_per_user_are_limited_and_removals_free_the_quota() {
    let server = TestChat::with(config()).await;
    server.create_room("tea", "eve", false).await;
    for n in 0..4 {
        assert_eq!(add_member(&server, "eve", "tea", &format!("u{n}")).await.0, 200);
    }
    let (status, message) = add_member(&server, "eve", "tea", "u4").await;
    assert_eq!(status, 403);
    assert!(message.contains("you have added too many"), "{message}");
    assert_eq!(server.http("eve", "DELETE", "/rooms/tea/members/u0", Value::Null).await.0, 200);
    assert_eq!(add_member(&server, "eve", "tea", "u4").await.0, 200);
    assert_eq!(add_member(&server, "eve", "tea", "u4").await.0, 200, "adding a member again does not count");
    assert_eq!(
        server.http("u9", "PUT", "/rooms/tea/members/u9", Value::Null).await.0,
        200,
        "joining by oneself is not affected"
    );
}
