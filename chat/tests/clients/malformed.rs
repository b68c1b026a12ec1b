//! Malformed input: JSON that the parser rejects, and packets that end the connection.

use chat::Config;
use serde_json::json;

use crate::support::{TestChat, gated_directory::Gate};

/// JSON that JavaScript produces and `serde_json` rejects: the resulting text, or the code of the refusal.
const MALFORMED: [(&str, Result<&str, &str>); 9] = [
    (r#"["message",{"text":"nice \ud83d"}]"#, Ok("nice \u{FFFD}")),
    (r#"["message",{"text":"\ude00!","clientId":"\ud83d","\ud83d":"\ud83d"}]"#, Ok("\u{FFFD}!")),
    (r#"["message",{"text":"extra"},{"\udfff":["\ud800\ud800"]}]"#, Ok("extra")),
    (r#"["message",{"text":"a","room":"\ud83d"}]"#, Err("bad_request")),
    (r#"["\ud83d",{}]"#, Err("bad_request")),
    (r#"["message",{"text":"a","x":1e400}]"#, Err("bad_request")),
    (r#"["history",{"limit":-1e400}]"#, Err("bad_request")),
    (r#"["join",{"room":"tea","since":1e400}]"#, Err("bad_request")),
    (r#"["message",{"text":"a","x":{DEEP}}]"#, Err("bad_request")),
];

#[actix_rt::test]
async fn malformed_json_fails_only_its_own_event() {
    // The rate limit is not tested here.
    let server = TestChat::with(Config { message_burst: 1000, ..Config::default() }).await;
    let (mut alice, mut bob) = (server.client("alice").await, server.client("bob").await);
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for (event, expected) in MALFORMED {
        let event = event.replace("{DEEP}", &deep);
        let before = alice.emit("message", json!({"text": "before"})).await;
        alice.send(&format!("4299{event}")).await;
        let after = alice.emit("message", json!({"text": "after"})).await;
        let ack = alice.ack(99).await;
        assert_eq!(ack["code"].as_str(), expected.err(), "{event}: {ack}");
        let delivered: Vec<&str> = ["before"].into_iter().chain(expected.ok()).chain(["after"]).collect();
        for (ack, text) in [(before, "before"), (after, "after")] {
            assert_eq!(alice.ack(ack).await["ok"], true, "{event}: {text}");
        }
        for text in delivered {
            assert_eq!(bob.message_text().await, text, "{event}");
        }
    }
    alice.send(r#"42["message",{"text":1e400}]"#).await;
    assert_eq!(
        alice.event("error").await[0]["code"],
        "bad_request",
        "without an ack the refusal is an `error` event"
    );
}

#[actix_rt::test]
async fn a_client_receives_the_reason_before_it_is_disconnected() {
    let gate = Gate::of("mallory");
    let server = TestChat::with_directory(Config::default(), |directory| gate.wrap(directory)).await;
    for (packet, reason) in [
        (r#"4511-["message"]"#, "too many attachments"),
        (r#"46100-1[]"#, "too many attachments"),
        ("40", "protocol violation"),
        (r#"42/elsewhere,["message"]"#, "protocol violation"),
        (r#"42["message",{"text":"a","x":NaN}]"#, "parse error"),
        (r#"421["message",{"text":"a","x":-Infinity}]"#, "parse error"),
        (r#"421["connect",{}]"#, "parse error"),
        (r#"42["disconnecting"]"#, "parse error"),
        ("42{}", "parse error"),
        (r#"451-["message",{"_placeholder":true,"num":7}]"#, "parse error"),
        ("4", "parse error"),
    ] {
        let mut eve = server.client("eve").await;
        eve.send(packet).await;
        let error = eve.event("error").await;
        assert_eq!(
            (&error[0]["code"], &error[0]["message"]),
            (&json!("bad_request"), &json!(reason)),
            "{packet}"
        );
        while eve.next().await.is_some() {}
    }
    let mut eve = server.client("eve").await;
    eve.send_invalid_text(b"42[\"message\",{\"text\":\"\xff\"}]").await;
    assert_eq!(eve.event("error").await[0]["message"], "invalid text");
    while eve.next().await.is_some() {}
    // The gate holds the CONNECT of this user, so all packets arrive before the answer to CONNECT.
    let login = server.login("mallory").await;
    let elsewhere: Vec<String> = (0..100).map(|n| format!("40/{n},")).collect();
    for (packets, reason) in [
        (vec!["40"; 30], "in one second"),
        (
            [vec!["40"], vec![r#"42["message",{"text":"a"}]"#; 33]].concat(),
            "too many events before the answer to CONNECT",
        ),
        (vec![r#"40/x,{"a":1e400}"#; 30], "nested too deeply"),
        (elsewhere.iter().map(String::as_str).collect(), "in one second"),
    ] {
        let mut eve = server.open_websocket(&login).await;
        for packet in &packets {
            let _ = eve.try_send(packet).await;
        }
        let mut received = Vec::new();
        while let Some(packet) = eve.next().await {
            received.push(packet);
        }
        assert!(received.iter().any(|packet| packet.contains(reason)), "{packets:?}: {received:?}");
    }
}
