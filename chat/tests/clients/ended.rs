//! What is left of somebody whose membership, session or device has ended: nothing.

use chat::Config;
use serde_json::{Value, json};
use sessions::Sessions;

use crate::parlor::{Client, DEADLINE, Parlor};

/// The next list of who types that is `wanted`.
async fn typing(client: &mut Client, wanted: Value) {
    let seen = async {
        loop {
            let shown = client.event("typing").await.remove(0);
            if shown["users"] == wanted {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("{wanted} is not shown"));
}

/// Whether the user is shown typing over HTTP, until that is `expected`.
async fn typing_over_http(parlor: &Parlor, user: &str, expected: bool) {
    let seen = async {
        loop {
            let (_, answer) = parlor.http("alice", "GET", "/presence/typing", Value::Null).await;
            let shown = answer["typing"].as_array().is_some_and(|users| users.contains(&json!(user)));
            if answer["typing"].is_array() && shown == expected {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.expect("typing is shown as it is");
}

fn of<'a>(packets: &'a [String], event: &str) -> Vec<&'a String> {
    packets.iter().filter(|packet| packet.starts_with(&format!("42[\"{event}\""))).collect()
}

#[actix_rt::test]
async fn typing_goes_to_others_and_never_to_the_typists_own_sockets() {
    let parlor = Parlor::open().await;
    let login = parlor.login("alice").await;
    let (mut alice, mut phone) = (parlor.enter(&login).await, parlor.enter(&login).await);
    let (mut bob, mut carol) = (parlor.client("bob").await, parlor.client("carol").await);
    assert_eq!(alice.ask("typing", json!({"isTyping": true})).await["ok"], true);
    typing(&mut bob, json!(["alice"])).await;
    typing(&mut carol, json!(["alice"])).await;
    assert_eq!(bob.ask("typing", json!({"isTyping": true})).await["ok"], true);
    typing(&mut carol, json!(["alice", "bob"])).await;
    typing(&mut alice, json!(["bob"])).await;
    typing(&mut phone, json!(["bob"])).await;
    assert_eq!(alice.ask("typing", json!({"isTyping": false})).await["ok"], true);
    typing(&mut bob, json!([])).await;
    typing(&mut carol, json!(["bob"])).await;
    for own in [&mut alice, &mut phone] {
        let heard = own.rest().await;
        assert!(of(&heard, "typing").iter().all(|list| !list.contains("alice")), "{heard:?}");
    }
}

#[actix_rt::test]
async fn a_member_who_is_removed_is_not_seen_typing_and_sees_nothing_on_any_device() {
    let parlor = Parlor::open().await;
    let login = parlor.login("bob").await;
    let (mut bob, mut tablet) = (parlor.enter(&login).await, parlor.enter(&login).await);
    let mut alice = parlor.client("alice").await;
    parlor.room("tea", "alice", false).await;
    assert_eq!(bob.ask("join", json!({"room": "tea"})).await["ok"], true);
    assert_eq!(bob.ask("typing", json!({"isTyping": true, "room": "tea"})).await["ok"], true);
    typing(&mut alice, json!(["bob"])).await;
    typing_over_http(&parlor, "bob", true).await;
    assert_eq!(parlor.http("alice", "DELETE", "/rooms/tea/members/bob", Value::Null).await.0, 200);
    typing(&mut alice, json!([])).await;
    typing_over_http(&parlor, "bob", false).await;
    for device in [&mut bob, &mut tablet] {
        device.until("42[\"room:left\"").await;
    }
    assert_eq!(alice.ask("typing", json!({"isTyping": true, "room": "tea"})).await["ok"], true);
    assert_eq!(alice.ask("message", json!({"text": "he is gone", "room": "tea"})).await["ok"], true);
    typing_over_http(&parlor, "alice", true).await;
    for device in [&mut bob, &mut tablet] {
        assert_eq!(device.ask("typing", json!({"isTyping": true, "room": "tea"})).await["code"], "forbidden");
        assert_eq!(device.ask("history", json!({"room": "tea"})).await["code"], "forbidden");
        let heard = device.rest().await;
        assert!(!heard.iter().any(|packet| packet.contains("he is gone")), "{heard:?}");
        assert!(
            of(&heard, "typing").iter().all(|list| !list.contains("\"tea\"") || list.contains("[]")),
            "{heard:?}"
        );
    }
}

#[actix_rt::test]
async fn who_was_removed_while_away_recovers_nothing_of_the_room() {
    let parlor = Parlor::open().await;
    let login = parlor.login("bob").await;
    let mut alice = parlor.client("alice").await;
    parlor.room("tea", "alice", false).await;
    let mut bob = parlor.dial(&login).await;
    bob.send("40").await;
    let connected: Value = serde_json::from_str(&bob.until("40{").await[2..]).unwrap();
    let offset = bob.event("welcome").await[1].clone();
    assert_eq!(bob.ask("join", json!({"room": "tea"})).await["ok"], true);
    drop(bob);
    assert_eq!(alice.ask("message", json!({"text": "one", "room": "tea"})).await["ok"], true);
    assert_eq!(alice.ask("message", json!({"text": "for all"})).await["ok"], true);
    assert_eq!(parlor.http("alice", "DELETE", "/rooms/tea/members/bob", Value::Null).await.0, 200);
    let mut back = parlor.dial(&login).await;
    back.send(&format!("40{}", json!({"pid": connected["pid"], "offset": offset}))).await;
    let again: Value = serde_json::from_str(&back.until("40{").await[2..]).unwrap();
    assert_eq!(again["sid"], connected["sid"], "recognised");
    assert_eq!(back.hears().await, "for all");
    let heard = back.rest().await;
    assert!(!heard.iter().any(|packet| packet.contains("\"one\"")), "{heard:?}");
}

#[actix_rt::test]
async fn a_session_that_ends_takes_its_typing_presence_and_seats_with_it_and_leaves_other_devices() {
    let parlor = Parlor::with(Config { sockets_per_user: 2, ..Config::default() }).await;
    let (first, second) = (parlor.login("alice").await, parlor.login("alice").await);
    let mut bob = parlor.client("bob").await;
    let (mut here, mut there) = (parlor.enter(&first).await, parlor.enter(&second).await);
    // Arrivals and departures between two events cancel each other out: bob sees the arrival first.
    let alice = json!("alice");
    while !bob.event("presence:diff").await[0]["joined"].as_array().is_some_and(|all| all.contains(&alice)) {}
    assert_eq!(here.ask("typing", json!({"isTyping": true})).await["ok"], true);
    typing(&mut bob, json!(["alice"])).await;
    parlor.sessions.close(first.token.as_ref().unwrap()).await.unwrap();
    while here.next().await.is_some() {}
    typing(&mut bob, json!([])).await;
    assert_eq!(there.ask("message", json!({"text": "still here"})).await["ok"], true);
    // The slot of the session that ended is free.
    let third = parlor.login("alice").await;
    let mut device = parlor.enter(&third).await;
    let (_, online) = parlor.http("bob", "GET", "/presence/online", Value::Null).await;
    assert_eq!(online["online"], json!(["alice", "bob"]), "another device is still here");
    for login in [&second, &third] {
        parlor.sessions.close(login.token.as_ref().unwrap()).await.unwrap();
    }
    while device.next().await.is_some() {}
    let gone = async {
        loop {
            if bob.event("presence:diff").await[0]["left"] == json!(["alice"]) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("alice goes offline");
}

#[actix_rt::test]
async fn an_archived_room_has_no_subscribers_and_counts_for_nobody() {
    let parlor = Parlor::with(Config { rooms_per_user: 1, ..Config::default() }).await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
    parlor.room("tea", "alice", false).await;
    assert_eq!(bob.ask("join", json!({"room": "tea"})).await["ok"], true);
    assert_eq!(bob.ask("typing", json!({"isTyping": true, "room": "tea"})).await["ok"], true);
    typing(&mut alice, json!(["bob"])).await;
    assert_eq!(parlor.http("alice", "DELETE", "/rooms/tea", Value::Null).await.0, 200);
    bob.until("42[\"room:left\"").await;
    typing_over_http(&parlor, "bob", false).await;
    for event in ["message", "typing", "history", "join", "leave"] {
        let payload = json!({"text": "x", "isTyping": true, "room": "tea"});
        assert_eq!(bob.ask(event, payload).await["code"], "not_found", "{event}");
    }
    assert_eq!(
        parlor.http("bob", "POST", "/rooms", json!({"name": "own"})).await.0,
        201,
        "the limit is free again"
    );
    let (status, again) = parlor.http("alice", "POST", "/rooms", json!({"name": "tea"})).await;
    assert_eq!(
        (status, &again["message"]),
        (409, &json!("this name belongs to an archived room, which keeps it"))
    );
}

#[actix_rt::test]
async fn a_new_room_of_an_old_name_shows_nothing_of_the_old_one_and_its_numbers_go_on() {
    let parlor = Parlor::open().await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
    let short = json!({"name": "short", "ephemeral": true});
    assert_eq!(parlor.http("alice", "POST", "/rooms", short.clone()).await.0, 201);
    assert_eq!(bob.ask("join", json!({"room": "short"})).await["ok"], true);
    for text in ["old", "older"] {
        let said = json!({"text": text, "room": "short", "clientId": text});
        assert_eq!(alice.ask("message", said).await["ok"], true);
    }
    assert_eq!(parlor.http("carol", "POST", "/rooms", short.clone()).await.0, 409, "it lives");
    assert_eq!(parlor.http("alice", "DELETE", "/rooms/short", Value::Null).await.0, 200);
    assert_eq!(alice.ask("history", json!({"room": "short"})).await["code"], "not_found");
    let (status, room) = parlor.http("carol", "POST", "/rooms", json!({"name": "short"})).await;
    assert_eq!((status, &room["owner"], &room["ephemeral"]), (201, &json!("carol"), &json!(false)));
    assert_eq!(
        alice.ask("history", json!({"room": "short"})).await["code"],
        "forbidden",
        "who was in the old one"
    );
    let entered = bob.ask("join", json!({"room": "short", "since": 0})).await;
    assert_eq!(entered, json!({"ok": true, "head": 2, "messages": []}));
    let said = json!({"text": "new", "room": "short", "clientId": "old"});
    assert_eq!(alice.ask("join", json!({"room": "short"})).await["ok"], true);
    assert_eq!(alice.ask("message", said).await["seq"], 3, "an id of the old room is free again");
    let page = bob.ask("history", json!({"room": "short"})).await;
    let texts: Vec<&Value> =
        page["messages"].as_array().unwrap().iter().map(|message| &message["data"]["text"]).collect();
    assert_eq!(texts, [&json!("new")]);
}
