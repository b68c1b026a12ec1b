//! Connections of clients: connect, identity, delivery, limits, presence, revocation and drain. With a real store, real sockets and
//! real presence.

mod support;

use std::sync::atomic::Ordering;

use chat::Config;
use serde_json::{Value, json};
use sessions::Sessions;
use support::{Login, TestChat, gated_directory::Gate};

fn messages(packets: &[String]) -> Vec<&String> {
    packets.iter().filter(|packet| packet.starts_with("42[\"message\"")).collect()
}

#[actix_rt::test]
async fn the_first_event_is_a_welcome_with_an_offset() {
    let server = TestChat::start().await;
    let mut alice = server.open_websocket(&server.login("alice").await).await;
    alice.send("40").await;
    assert!(alice.next().await.unwrap().starts_with("40{"));
    let welcome = alice.next().await.unwrap();
    let welcome: Value = serde_json::from_str(welcome.strip_prefix("42").unwrap()).unwrap();
    assert_eq!(
        (&welcome[0], &welcome[1]["message"], &welcome[1]["username"]),
        (&json!("welcome"), &json!("Welcome alice!"), &json!("alice"))
    );
    assert!(welcome[2].as_str().unwrap().ends_with("-0"), "{welcome}");
    alice.event("presence").await;
}

#[actix_rt::test]
async fn a_message_is_delivered_to_all_other_sockets() {
    let server = TestChat::start().await;
    let login = server.login("alice").await;
    let (mut alice, mut phone) = (server.connect(&login).await, server.connect(&login).await);
    let mut bob = server.client("bob").await;
    let ack = alice.ask("message", json!({"text": "hi", "userId": "eve"})).await;
    assert_eq!((&ack["ok"], &ack["seq"], ack.as_object().unwrap().len()), (&json!(true), &json!(1), 3));
    for receiver in [&mut bob, &mut phone] {
        let args = receiver.event("message").await;
        assert_eq!(
            (&args[0]["id"], &args[0]["from"], &args[0]["seq"]),
            (&ack["id"], &json!("alice"), &json!(1))
        );
        assert!(args[1].as_str().unwrap().ends_with("-1"), "the offset is last: {args:?}");
    }
    assert!(messages(&alice.drain().await).is_empty(), "the sender has only the ack");
}

#[actix_rt::test]
async fn events_right_after_connect_are_processed_in_order() {
    let server = TestChat::start().await;
    let mut bob = server.client("bob").await;
    let mut alice = server.open_websocket(&server.login("alice").await).await;
    alice.send("40").await;
    alice.receive_until("40{").await;
    let mut acks = Vec::new();
    for n in 0..20 {
        acks.push(alice.emit("message", json!({"text": n.to_string()})).await);
    }
    for (n, ack) in acks.into_iter().enumerate() {
        assert_eq!(alice.ack(ack).await["seq"], json!(n + 1));
        assert_eq!(bob.message_text().await, n.to_string());
    }
}

#[actix_rt::test]
async fn a_logout_disconnects_only_the_sockets_of_its_session() {
    let server = TestChat::start().await;
    let (here, there) = (server.login("alice").await, server.login("alice").await);
    let (mut revoked, mut other) = (server.connect(&here).await, server.connect(&there).await);
    server.sessions.close(&here.token.as_ref().unwrap().id()).await.unwrap();
    revoked.receive_until("41").await;
    while revoked.next().await.is_some() {}
    assert_eq!(other.ask("message", json!({"text": "still here"})).await["ok"], true);
    let mut back = server.open_websocket(&here).await;
    back.send("40").await;
    assert!(back.receive_until("44").await.contains("Authentication required"));
}

#[actix_rt::test]
async fn a_client_whose_session_ends_receives_the_cause_before_it_is_disconnected() {
    // How the session ends, and a part of the message. `None`: the client reconnects automatically and receives no message.
    let table = [
        ("logout", Some("by a logout")),
        ("evicted", Some("at most 20 sessions")),
        ("age", Some("24 h after its login")),
        ("replaced", None),
    ];
    for (end, cause) in table {
        let server = TestChat::start().await;
        let login = server.login("alice").await;
        let (token, user) = (login.token.clone().unwrap(), "alice".parse().unwrap());
        let (mut alice, mut bob) = (server.connect(&login).await, server.client("bob").await);
        match end {
            "logout" => server.sessions.close(&token.id()).await.unwrap(),
            "evicted" => {
                for _ in 0..sessions::PER_USER {
                    server.login("alice").await;
                }
            }
            "age" => {
                server.clock_offset.store(sessions::LIFETIME_SECONDS * 1_000, Ordering::Relaxed);
                server.login("carol").await;
            }
            _ => {
                let new = server.sessions.open(&user, &[token]).await.unwrap();
                assert!(server.sessions.find(&new.id()).await.unwrap().is_some());
            }
        }
        let mut packets = Vec::new();
        while let Some(packet) = alice.next().await {
            packets.push(packet);
        }
        let error = packets.iter().position(|packet| packet.starts_with("42[\"error\""));
        let disconnect = packets.iter().position(|packet| packet == "41");
        let Some(cause) = cause else {
            assert_eq!((error, disconnect), (None, None), "{end}: {packets:?}");
            continue;
        };
        assert!(error.is_some() && error < disconnect, "{end}: {packets:?}");
        let event: Value = serde_json::from_str(&packets[error.unwrap()][2..]).unwrap();
        assert_eq!((&event[1]["ok"], &event[1]["code"]), (&json!(false), &json!("unauthorized")), "{end}");
        assert!(event[1]["message"].as_str().unwrap().contains(cause), "{end}: {event}");
        if end != "age" {
            assert_eq!(bob.ask("message", json!({"text": "still here"})).await["ok"], true, "{end}");
        }
    }
}

#[actix_rt::test]
async fn a_client_without_a_session_is_refused_for_any_connect_payload() {
    let server = TestChat::start().await;
    let mut eve = server.open_websocket(&Login { user: String::new(), token: None }).await;
    eve.send("40{\"username\":\"alice\",\"token\":\"x\"}").await;
    let refused: Value =
        serde_json::from_str(eve.receive_until("44").await.strip_prefix("44").unwrap()).unwrap();
    assert_eq!(refused["message"], "Authentication required");
    assert_eq!(refused["data"]["code"], "unauthorized");
}

#[actix_rt::test]
async fn a_username_in_the_connect_payload_is_ignored() {
    let server = TestChat::start().await;
    let mut eve = server.open_websocket(&server.login("eve").await).await;
    eve.send("40{\"username\":\"alice\"}").await;
    assert_eq!(eve.event("welcome").await[0]["username"], "eve");
}

#[actix_rt::test]
async fn sockets_above_the_limit_wait_and_are_closed_until_a_slot_is_free() {
    let server = TestChat::with(Config { sockets_per_user: 2, ..Config::default() }).await;
    let login = server.login("alice").await;
    let (first, _second) = (server.connect(&login).await, server.connect(&login).await);
    let mut third = server.open_websocket(&login).await;
    third.send("40").await;
    // A CONNECT_ERROR would end the attempts of a stock client.
    while let Some(packet) = third.next().await {
        assert!(!packet.starts_with("44") && !packet.starts_with("40"), "{packet}");
    }
    let mut bob = server.client("bob").await;
    assert_eq!(bob.ask("message", json!({"text": "room for me"})).await["ok"], true);
    // A client that waits gets the slot of the socket that ends.
    let mut again = server.open_websocket(&login).await;
    again.send("40").await;
    drop(first);
    again.receive_until("40{").await;
}

#[actix_rt::test]
async fn a_flooding_client_without_acks_receives_error_events_before_it_is_disconnected() {
    let server = TestChat::start().await;
    let mut alice = server.client("alice").await;
    for n in 0..2_000 {
        // The server may close the connection during this loop.
        let _ = alice.try_send(&format!("42[\"message\",{{\"text\":\"{n}\"}}]")).await;
    }
    let mut errors = Vec::new();
    while let Some(packet) = alice.next().await {
        errors.extend(packet.strip_prefix("42[\"error\",").map(str::to_owned));
    }
    assert!(
        (2..10).contains(&errors.len()),
        "the first refusal, about one per second, and the last: {errors:?}"
    );
    for error in errors {
        let error: Value = serde_json::from_str(error.strip_suffix(']').unwrap()).unwrap();
        assert_eq!((&error["ok"], &error["code"]), (&json!(false), &json!("rate_limited")));
        assert!(error["retryAfter"].as_f64().unwrap() > 0.0, "{error}");
    }
}

#[actix_rt::test]
async fn messages_above_the_rate_are_refused_and_accepted_ones_are_delivered() {
    let server = TestChat::start().await;
    let (mut alice, mut bob) = (server.client("alice").await, server.client("bob").await);
    let mut acks = Vec::new();
    for n in 0..60 {
        acks.push(alice.emit("message", json!({"text": n.to_string()})).await);
    }
    let (mut accepted, mut refused) = (0, 0);
    for ack in acks {
        let answer = alice.ack(ack).await;
        if answer["ok"] == json!(true) {
            accepted += 1;
            assert_eq!(answer["seq"], json!(accepted));
        } else {
            refused += 1;
            assert_eq!(
                (&answer["code"], answer["retryAfter"].as_f64().unwrap() > 0.0),
                (&json!("rate_limited"), true)
            );
        }
    }
    assert!(accepted >= 20 && refused > 0, "{accepted} accepted, {refused} refused");
    for _ in 0..accepted {
        bob.message_text().await;
    }
    assert!(messages(&bob.drain().await).is_empty());
}

#[actix_rt::test]
async fn the_start_and_end_of_typing_are_delivered() {
    let server = TestChat::start().await;
    let (mut alice, mut bob) = (server.client("alice").await, server.client("bob").await);
    assert_eq!(alice.ask("typing", json!({"isTyping": true})).await, json!({"ok": true}));
    assert_eq!(bob.event("typing").await[0], json!({"users": ["alice"], "room": "lobby"}));
    alice.emit("typing", json!({"isTyping": false})).await;
    assert_eq!(bob.event("typing").await[0], json!({"users": [], "room": "lobby"}));
}

#[actix_rt::test]
async fn users_who_connect_and_disconnect_are_announced() {
    let server = TestChat::start().await;
    let mut alice = server.client("alice").await;
    let (tab, other_tab) = (server.client("bob").await, server.client("bob").await);
    let until = async |alice: &mut support::Client, online: Value| {
        while alice.event("presence").await[0]["online"] != online {}
    };
    until(&mut alice, json!(["alice", "bob"])).await;
    drop(tab);
    alice.ask("message", json!({"text": "one tab less"})).await;
    drop(other_tab);
    until(&mut alice, json!(["alice"])).await;
    let mut left = alice.event("presence:diff").await[0].clone();
    while left["left"] != json!(["bob"]) {
        left = alice.event("presence:diff").await[0].clone();
    }
    assert_eq!(left["count"], 1);
    let (status, online) = server.http("alice", "GET", "/presence/online", Value::Null).await;
    assert_eq!((status, online), (200, json!({"online": ["alice"]})));
}

#[actix_rt::test]
async fn malformed_events_are_refused_without_side_effects() {
    let server = TestChat::start().await;
    let mut alice = server.client("alice").await;
    for (event, payload) in [("message", json!({"text": 1})), ("join", json!([])), ("no such", Value::Null)] {
        let refused = alice.ask(event, payload).await;
        assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("bad_request")), "{event}");
    }
    alice.send("42[\"message\"]").await;
    assert_eq!(alice.ask("message", json!({"text": "fine"})).await["seq"], 1);
}

#[actix_rt::test]
async fn a_drain_answers_accepted_events_and_refuses_later_ones() {
    let server = TestChat::start().await;
    let (mut alice, mut bob) = (server.client("alice").await, server.client("bob").await);
    assert_eq!(alice.ask("message", json!({"text": "last words"})).await["ok"], true);
    server.chat.drain().await;
    assert_eq!(alice.ask("message", json!({"text": "too late"})).await["code"], "unavailable");
    assert_eq!(bob.message_text().await, "last words");
    let mut carol = server.open_websocket(&server.login("carol").await).await;
    carol.send("40").await;
    // A stock client does not reconnect after a refusal, but it does after a lost connection.
    assert_eq!(carol.next().await, None);
}

#[actix_rt::test]
async fn events_queued_behind_a_slow_event_are_refused_above_the_limit() {
    let gate = Gate::of("slow");
    let server = TestChat::with_directory(Config::default(), |directory| gate.wrap(directory)).await;
    let mut alice = server.client("alice").await;
    alice.send(r#"42["join",{"room":"slow"}]"#).await;
    gate.wait_for_read().await;
    for _ in 0..119 {
        alice.send(r#"42["leave",{"room":"lobby"}]"#).await;
    }
    let mut acks = Vec::new();
    for n in 1..=20 {
        acks.push(alice.emit("message", json!({"text": n.to_string()})).await);
    }
    // 128 commands are queued: 119 `leave` and 9 `message`.
    for ack in acks.split_off(9) {
        assert_eq!(alice.ack(ack).await["code"], "rate_limited");
    }
    gate.open();
    for (n, ack) in acks.into_iter().enumerate() {
        assert_eq!(alice.ack(ack).await["seq"], json!(n + 1));
    }
}
