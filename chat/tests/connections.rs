//! Connections of clients: events after CONNECT, the end of a session, drain, and the queue of commands. With a real store, real sockets
//! and real presence.

mod support;

use std::sync::atomic::Ordering;

use chat::Config;
use serde_json::{Value, json};
use sessions::Sessions;
use support::{TestChat, gated_directory::Gate};

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
        let (token, user) = (login.token.clone(), "alice".parse().unwrap());
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
