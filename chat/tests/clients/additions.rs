//! What others may do to somebody's list of rooms: they fill a share of their own, and whoever leaves stays away.

use chat::Config;
use serde_json::{Value, json};

use crate::parlor::Parlor;

fn config() -> Config {
    Config { rooms_per_user: 3, additions_per_user: 4, message_burst: 1000, ..Config::default() }
}

async fn adds(parlor: &Parlor, by: &str, room: &str, user: &str) -> (u16, String) {
    let path = format!("/rooms/{room}/members/{user}");
    let (status, answer) = parlor.http(by, "PUT", &path, Value::Null).await;
    (status, answer["message"].as_str().unwrap_or_default().to_owned())
}

#[actix_rt::test]
async fn a_victim_who_was_added_to_many_rooms_makes_and_enters_their_own() {
    let parlor = Parlor::with(config()).await;
    for n in 0..4 {
        parlor.room(&format!("r{n}"), &format!("eve{n}"), false).await;
    }
    for n in 0..3 {
        assert_eq!(adds(&parlor, &format!("eve{n}"), &format!("r{n}"), "bob").await.0, 200);
    }
    let (status, words) = adds(&parlor, "eve3", "r3", "bob").await;
    assert_eq!(status, 403);
    assert!(words.contains("added the user to too many rooms"), "{words}");
    let mut bob = parlor.client("bob").await;
    assert_eq!(bob.ask("join", json!({"room": "r3"})).await["ok"], true);
    for name in ["b1", "b2"] {
        let (status, _) = parlor.http("bob", "POST", "/rooms", json!({"name": name})).await;
        assert_eq!(status, 201);
    }
    let (status, _) = parlor.http("bob", "POST", "/rooms", json!({"name": "b3"})).await;
    assert_eq!(status, 403, "three of their own are as many as before");
    assert_eq!(bob.ask("leave", json!({"room": "r3"})).await["ok"], true);
    assert_eq!(bob.ask("join", json!({"room": "r3"})).await["ok"], true);
}

#[actix_rt::test]
async fn who_has_left_is_not_added_again_until_they_enter() {
    let parlor = Parlor::with(config()).await;
    parlor.room("tea", "eve", false).await;
    assert_eq!(adds(&parlor, "eve", "tea", "bob").await.0, 200);
    let (status, _) = parlor.http("bob", "DELETE", "/rooms/tea/members/bob", Value::Null).await;
    assert_eq!(status, 200);
    let (status, words) = adds(&parlor, "eve", "tea", "bob").await;
    assert_eq!(status, 403);
    assert!(words.contains("has left this room"), "{words}");
    let mut bob = parlor.client("bob").await;
    assert_eq!(bob.ask("join", json!({"room": "tea"})).await["ok"], true);
    assert_eq!(bob.ask("leave", json!({"room": "tea"})).await["ok"], true);
    assert_eq!(adds(&parlor, "eve", "tea", "bob").await.0, 200, "they had entered, and left on their own");
    for room in ["r1", "r2"] {
        parlor.room(room, "eve", true).await;
        assert_eq!(adds(&parlor, "eve", room, "bob").await.0, 200);
    }
    for room in ["tea", "r1", "r2"] {
        let path = format!("/rooms/{room}/members/bob");
        assert_eq!(parlor.http("bob", "DELETE", &path, Value::Null).await.0, 200);
    }
    parlor.http("eve", "DELETE", "/rooms/r1", Value::Null).await;
    parlor.room("r3", "eve", true).await;
    let (status, words) = adds(&parlor, "eve", "r3", "bob").await;
    assert_eq!(status, 403);
    assert!(words.contains("has left several rooms"), "{words}");
    parlor.room("r4", "carol", true).await;
    assert_eq!(adds(&parlor, "carol", "r4", "bob").await.0, 200, "others may");
}

#[actix_rt::test]
async fn one_adder_has_a_limit_of_their_own_and_removals_give_it_back() {
    let parlor = Parlor::with(config()).await;
    parlor.room("tea", "eve", false).await;
    for n in 0..4 {
        assert_eq!(adds(&parlor, "eve", "tea", &format!("u{n}")).await.0, 200);
    }
    let (status, words) = adds(&parlor, "eve", "tea", "u4").await;
    assert_eq!(status, 403);
    assert!(words.contains("you have added too many"), "{words}");
    assert_eq!(parlor.http("eve", "DELETE", "/rooms/tea/members/u0", Value::Null).await.0, 200);
    assert_eq!(adds(&parlor, "eve", "tea", "u4").await.0, 200);
    assert_eq!(adds(&parlor, "eve", "tea", "u4").await.0, 200, "who is in it already costs nothing");
    assert_eq!(
        parlor.http("u9", "PUT", "/rooms/tea/members/u9", Value::Null).await.0,
        200,
        "own ways stay open"
    );
}
