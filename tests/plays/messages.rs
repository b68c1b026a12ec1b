//! Messages in the lobby: delivery, acks, history.

use serde_json::{Value, json};

use crate::support::{Request, TestServer};

#[tokio::test]
async fn the_sending_socket_receives_an_ack_and_the_senders_other_socket_receives_the_message() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut tab = alice.open_tab().await;
    let mut bob = server.connected_user("bob").await;

    let ack = alice.send_message("once").await;
    let received = tab.receive_message("once").await;
    assert_eq!((&received["id"], &received["seq"]), (&ack["id"], &ack["seq"]));

    bob.send_message("fence").await;
    alice.receive_message("fence").await;
    assert!(!alice.has_received("once"), "the sending socket received its own message: {:?}", alice.received);
}

#[tokio::test]
async fn a_message_without_an_ack_is_delivered_and_stored() {
    let server = TestServer::start().await;
    let alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;

    alice.emit("message", &json!({"text": "no ack"}));
    bob.receive_message("no ack").await;
    assert_eq!(texts(&alice.user.read_history("lobby").await), ["no ack"]);
}

#[tokio::test]
async fn a_repeated_client_id_returns_the_first_result_and_stores_one_message() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    let post = json!({"text": "only once", "clientId": "c-1"});

    let first = alice.emit_with_ack("message", &post).await;
    let again = alice.emit_with_ack("message", &post).await;
    let mut later = alice.open_tab().await;
    let from_another_tab = later.emit_with_ack("message", &post).await;
    assert_eq!(first["ok"], true, "{first}");
    assert_eq!((&first, &first), (&again, &from_another_tab));

    let other_text =
        alice.emit_with_ack("message", &json!({"text": "something else", "clientId": "c-1"})).await;
    assert_eq!((&other_text["ok"], &other_text["code"]), (&json!(false), &json!("conflict")), "{other_text}");

    let bobs = bob.emit_with_ack("message", &json!({"text": "bob's own", "clientId": "c-1"})).await;
    assert_eq!((&bobs["ok"], &bobs["seq"]), (&json!(true), &json!(2)), "{bobs}");
    alice.send_message("fence").await;
    bob.receive_message("fence").await;
    assert_eq!(texts(&bob.received), ["only once", "fence"]);
    assert_eq!(texts(&alice.user.read_history("lobby").await), ["only once", "bob's own", "fence"]);
}

#[tokio::test]
async fn the_same_client_id_from_three_tabs_at_the_same_time_stores_one_message() {
    let server = TestServer::start().await;
    let alice = server.connected_user("alice").await;
    let post = json!({"text": "hello", "clientId": "c-1"});
    let mut tabs = [alice.open_tab().await, alice.open_tab().await, alice.open_tab().await];

    let mut results = Vec::new();
    for _ in 0..5 {
        let ids: Vec<u64> = tabs.iter_mut().map(|tab| tab.request("message", &post)).collect();
        for (tab, id) in tabs.iter_mut().zip(ids) {
            results.push(tab.ack(id).await);
        }
    }
    assert_eq!(results[0]["ok"], true, "{results:?}");
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    assert_eq!(alice.user.read_history("lobby").await.len(), 1);
}

#[tokio::test]
async fn a_message_posted_over_http_is_delivered_to_sockets() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;

    let post = json!({"text": "from a script", "clientId": "h-1"});
    let posted = alice.user.post("/rooms/lobby/messages", &post).await.expect(201).json();
    for listener in [&mut alice, &mut bob] {
        let received = listener.receive_message("from a script").await;
        assert_eq!((&received["id"], &received["seq"]), (&posted["id"], &posted["seq"]));
    }
    let over_the_socket = alice.emit_with_ack("message", &post).await;
    assert_eq!((&over_the_socket["id"], &over_the_socket["seq"]), (&posted["id"], &posted["seq"]));
}

#[tokio::test]
async fn history_pages_are_newest_first_and_end_with_null() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    for n in 1..=7 {
        alice.send_message(&format!("m{n}")).await;
    }

    let first = alice.user.get("/rooms/lobby/messages?limit=3").await.expect(200).json();
    assert_eq!((texts_of(&first), &first["next"]), (vec!["m7", "m6", "m5"], &json!(5)));
    let second = alice.user.get("/rooms/lobby/messages?limit=3&before=5").await.expect(200).json();
    assert_eq!((texts_of(&second), &second["next"]), (vec!["m4", "m3", "m2"], &json!(2)));
    let last = alice.user.get("/rooms/lobby/messages?limit=3&before=2").await.expect(200).json();
    assert_eq!((texts_of(&last), &last["next"]), (vec!["m1"], &Value::Null));

    let after = alice.user.get("/rooms/lobby/messages?after=5").await.expect(200).json();
    assert_eq!(texts_of(&after), ["m7", "m6"]);
    for bad in ["limit=0", "limit=101", "limit=x", "before=-1"] {
        alice.user.get(&format!("/rooms/lobby/messages?{bad}")).await.expect_refusal(400);
    }
    let page = alice.emit_with_ack("history", &json!({"room": "lobby", "before": 5, "limit": 3})).await;
    assert_eq!(texts_of(&page), ["m4", "m3", "m2"], "{page}");
}

#[tokio::test]
async fn a_join_with_since_returns_all_missed_messages() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let bob = server.user("bob").await;
    for n in 1..=5 {
        alice.send_message(&format!("m{n}")).await;
    }

    let mut bob = bob.connect().await;
    let joined = bob.emit_with_ack("join", &json!({"room": "lobby", "since": 2})).await;
    assert_eq!((&joined["ok"], &joined["head"]), (&json!(true), &json!(5)), "{joined}");
    assert_eq!(texts_of(&joined), ["m3", "m4", "m5"]);

    alice.send_message("m6").await;
    assert_eq!(bob.receive_message("m6").await["seq"], 6);
}

#[tokio::test]
async fn history_and_sessions_survive_a_crash() {
    let mut server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let sent = alice.send_message("remember me").await;

    server.system.kill();
    server.system.restart().await;

    let stored = alice.user.request(Request::get("/rooms/lobby/messages")).await.expect(200).json();
    assert_eq!((texts_of(&stored), &stored["messages"][0]["id"]), (vec!["remember me"], &sent["id"]));
    let mut again = alice.user.connect().await;
    assert_eq!(again.send_message("still here").await["seq"], 2);
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["data"]["text"].as_str()).collect()
}

fn texts_of(page: &Value) -> Vec<&str> {
    texts(page["messages"].as_array().map(Vec::as_slice).unwrap_or_default())
}
