//! Limits at their bound and one past it, and the isolation of other clients from a client that violates them.

use serde_json::json;

use crate::support::{ConnectFailure, RawSocket, TestServer, with_timeout};

#[tokio::test]
async fn a_text_of_8192_bytes_is_accepted_and_one_more_byte_is_too_large() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    // Two bytes per letter: the limit counts bytes, not characters.
    let longest = "é".repeat(4096);
    alice.send_message(&longest).await;
    bob.receive_message(&longest).await;

    for text in [format!("{longest}x"), "x".repeat(8193)] {
        let ack = alice.emit_with_ack("message", &json!({"text": text})).await;
        assert_eq!((&ack["ok"], &ack["code"]), (&json!(false), &json!("too_large")), "{ack}");
        alice.user.post("/rooms/lobby/messages", &json!({"text": text})).await.expect_refusal(413);
    }
    assert_eq!(alice.user.read_history("lobby").await.len(), 1);
}

#[tokio::test]
async fn messages_above_the_rate_limit_are_refused_with_a_retry_delay() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;

    let ids: Vec<u64> =
        (0..60).map(|n| alice.request("message", &json!({"text": format!("quick {n}")}))).collect();
    let mut acks = Vec::new();
    for id in ids {
        acks.push(alice.ack(id).await);
    }
    let burst = acks.iter().take_while(|ack| ack["ok"] == true).count();
    assert!(burst >= 20, "the burst is 20, not {burst}: {}", acks[burst]);
    let refused = acks.iter().find(|ack| ack["ok"] == false).expect("60 at once pass a limit of 10 a second");
    assert_eq!(refused["code"], "rate_limited", "{refused}");
    assert!(refused["retryAfter"].as_f64().is_some_and(|wait| wait > 0.0 && wait < 60.0), "{refused}");

    // A refused message is not delivered, and other users are not limited.
    let accepted = acks.iter().filter(|ack| ack["ok"] == true).count();
    bob.send_message("fence").await;
    alice.receive_message("fence").await;
    assert_eq!(alice.user.read_history("lobby").await.len(), accepted + 1);
}

#[tokio::test]
async fn a_flood_ends_with_an_error_event_after_all_acks_of_stored_messages() {
    let server = TestServer::start().await;
    let mut eve = server.connected_user("eve").await;
    let ids: Vec<u64> =
        (0..600).map(|n| eve.request("message", &json!({"text": format!("flood {n}")}))).collect();
    let error = eve.closed_after("error").await;
    assert_eq!(error["code"], "rate_limited", "{error}");
    assert!(error["retryAfter"].as_f64().is_some_and(|wait| wait > 0.0), "{error}");
    let mut acked = 0;
    for id in ids {
        let answer = eve.try_ack(id).await;
        acked += usize::from(answer.is_some_and(|answer| answer["ok"] == true));
    }
    assert!(acked >= 20, "the burst is 20: {acked}");
    assert_eq!(
        eve.user.read_history("lobby").await.len(),
        acked,
        "the number of stored messages equals the number of acks"
    );
}

#[tokio::test]
async fn excess_heartbeats_and_oversized_messages_close_the_connection_after_an_error_event() {
    let server = TestServer::start().await;
    let eve = server.user("eve").await;
    for (flood, code) in [(vec!["3"; 20], "rate_limited"), (vec!["6"; 20], "rate_limited")] {
        let mut socket = eve.connect().await;
        flood.into_iter().for_each(|packet| socket.send_text(packet));
        let error = socket.closed_after("error").await;
        assert_eq!((&error["code"], &error["retryAfter"]), (&json!(code), &json!(1.0)), "{error}");
    }
    let mut socket = eve.connect().await;
    socket.send_text("4".repeat(100_000));
    assert_eq!(socket.closed_after("error").await["code"], "too_large");
    // Each attachment alone is within the limit.
    let mut socket = eve.connect().await;
    socket.send_text(r#"452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
    socket.send_binary(vec![7; 40_000]);
    socket.send_binary(vec![7; 40_000]);
    assert_eq!(socket.closed_after("error").await["code"], "too_large");
}

#[tokio::test]
async fn reconnecting_the_namespace_does_not_reset_the_rate_limit() {
    let server = TestServer::start_with(&["--message-rate", "1"]).await;
    let eve = server.user("eve").await;
    let mut socket = RawSocket::open(eve.source, eve.server, eve.token(), None).await;
    socket.join().await;
    for _ in 0..3 {
        for _ in 0..20 {
            socket.send_text(r#"42["message",{"text":"once more"}]"#).await;
        }
        socket.send_text("41").await;
        socket.join().await;
    }
    socket.send_text(r#"421["history",{}]"#).await;
    socket.until(|frame| frame.payload.starts_with(b"431")).await;
    // The messages have no acks, so the last ones may not be stored yet.
    let stored = with_timeout("the burst to be stored", async {
        loop {
            let stored = eve.read_history("lobby").await.len();
            if stored >= 20 {
                return stored;
            }
        }
    });
    let stored = stored.await;
    assert!(stored < 40, "{stored} of 60, with a burst of 20");
}

#[tokio::test]
async fn the_21st_socket_of_a_user_is_refused_and_the_other_20_stay_open() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut bob = server.connected_user("bob").await;
    let mut tabs = Vec::new();
    for _ in 0..20 {
        tabs.push(alice.connect().await);
    }

    match alice.try_connect(alice.handshake()).await {
        Err(ConnectFailure::Http(status, _)) => assert!((400..500).contains(&status), "{status}"),
        Err(ConnectFailure::ConnectError(why)) => assert!(why["message"].is_string(), "{why}"),
        Err(ConnectFailure::Ended(_)) => {}
        Err(ConnectFailure::Unreachable(why)) => panic!("{why}"),
        Ok(mut socket) => {
            socket.closed().await;
        }
    }
    bob.send_message("all twenty").await;
    for tab in &mut tabs {
        tab.receive_message("all twenty").await;
    }
}

#[tokio::test]
async fn a_malformed_event_is_acked_with_an_error_or_closes_only_its_connection() {
    let server = TestServer::start().await;
    let mut alice = server.connected_user("alice").await;
    let mut bob = server.connected_user("bob").await;
    let eve = server.user("eve").await;

    for payload in
        [json!({}), json!({"text": 1}), json!({"text": ""}), json!("text"), json!(null), json!([1])]
    {
        let mut socket = eve.connect().await;
        let ack = socket.emit_with_ack("message", &payload).await;
        assert_eq!((&ack["ok"], &ack["code"]), (&json!(false), &json!("bad_request")), "{payload}: {ack}");
    }
    for (n, packet) in MALFORMED.iter().enumerate() {
        let mut socket = eve.connect().await;
        socket.send_text(*packet);
        // The server responds or closes the connection; it does not ignore the request.
        socket.receive_pending().await;
        // In turns, so that neither sender reaches the rate limit.
        let (sender, listener) = if n % 2 == 0 { (&mut alice, &mut bob) } else { (&mut bob, &mut alice) };
        sender.send_message(&format!("after {n}")).await;
        listener.receive_message(&format!("after {n}")).await;
    }
    assert_eq!(alice.user.read_history("lobby").await.len(), MALFORMED.len());
}

/// Packets that no conformant client sends.
const MALFORMED: [&str; 26] = [
    "",
    "x",
    "9",
    "0{}",
    "2",
    "2probe",
    "4",
    "42",
    "42[]",
    "42{}",
    "42[",
    r#"42["message""#,
    "42[true,1]",
    "42[null]",
    r#"42[{"toString":"foo"}]"#,
    r#"42["connect"]"#,
    r#"42["disconnect"]"#,
    r#"42["__proto__"]"#,
    r#"42["error",{}]"#,
    r#"4299999999999999999999999["message",{"text":"x"}]"#,
    "43999[]",
    "40",
    "44{}",
    r#"450-["a"]"#,
    r#"4599999999-["a"]"#,
    r#"42/nowhere,["message",{"text":"x"}]"#,
];
