//! What clients send that no good client means: JSON beyond what the parser takes, and packets that end the connection.

use chat::Config;
use serde_json::json;

use crate::parlor::{Parlor, gated::Gate};

/// JSON that JavaScript and others write, that `serde_json` refuses, and the codes of their acks.
const ODD: [(&str, Result<&str, &str>); 9] = [
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
async fn json_that_only_javascript_reads_costs_its_own_event_and_nothing_else() {
    // The rate of messages is not what is tested here.
    let parlor = Parlor::with(Config { message_burst: 1000, ..Config::default() }).await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for (odd, expected) in ODD {
        let odd = odd.replace("{DEEP}", &deep);
        let before = alice.emit("message", json!({"text": "before"})).await;
        alice.send(&format!("4299{odd}")).await;
        let after = alice.emit("message", json!({"text": "after"})).await;
        let ack = alice.ack(99).await;
        assert_eq!(ack["code"].as_str(), expected.err(), "{odd}: {ack}");
        let heard: Vec<&str> = ["before"].into_iter().chain(expected.ok()).chain(["after"]).collect();
        for (ack, text) in [(before, "before"), (after, "after")] {
            assert_eq!(alice.ack(ack).await["ok"], true, "{odd}: {text}");
        }
        for text in heard {
            assert_eq!(bob.hears().await, text, "{odd}");
        }
    }
    alice.send(r#"42["message",{"text":1e400}]"#).await;
    assert_eq!(alice.event("error").await[0]["code"], "bad_request", "without an ack it is an event");
}

#[actix_rt::test]
async fn a_client_is_told_why_before_it_is_cut() {
    let gate = Gate::of("mallory");
    let parlor = Parlor::with_directory(Config::default(), |directory| gate.before(directory)).await;
    for (packet, words) in [
        (r#"4511-["message"]"#, "too many attachments"),
        (r#"46100-1[]"#, "too many attachments"),
        ("40", "protocol violation"),
        (r#"42/elsewhere,["message"]"#, "protocol violation"),
    ] {
        let mut eve = parlor.client("eve").await;
        eve.send(packet).await;
        let error = eve.event("error").await;
        assert_eq!(
            (&error[0]["code"], &error[0]["message"]),
            (&json!("bad_request"), &json!(words)),
            "{packet}"
        );
        while eve.next().await.is_some() {}
    }
    // Nobody of this name is let in: what they send comes before the answer to CONNECT.
    let login = parlor.login("mallory").await;
    let elsewhere: Vec<String> = (0..100).map(|n| format!("40/{n},")).collect();
    for (packets, words) in [
        (vec!["40"; 30], "in one second"),
        (
            [vec!["40"], vec![r#"42["message",{"text":"a"}]"#; 33]].concat(),
            "too many events before the answer to CONNECT",
        ),
        (vec![r#"40/x,{"a":1e400}"#; 30], "nested too deeply"),
        (elsewhere.iter().map(String::as_str).collect(), "in one second"),
    ] {
        let mut eve = parlor.dial(&login).await;
        for packet in &packets {
            let _ = eve.try_send(packet).await;
        }
        let mut told = Vec::new();
        while let Some(packet) = eve.next().await {
            told.push(packet);
        }
        assert!(told.iter().any(|packet| packet.contains(words)), "{packets:?}: {told:?}");
    }
}
