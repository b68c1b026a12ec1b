//! Clients through the front of the chat: real sockets, real store, real presence.

mod parlor;

use std::sync::atomic::Ordering;

use chat::Config;
use parlor::{Login, Parlor, gated::Gate};
use serde_json::{Value, json};
use sessions::Sessions;

fn messages(packets: &[String]) -> Vec<&String> {
    packets.iter().filter(|packet| packet.starts_with("42[\"message\"")).collect()
}

#[actix_rt::test]
async fn a_welcome_comes_first_and_carries_an_offset() {
    let parlor = Parlor::open().await;
    let mut alice = parlor.dial(&parlor.login("alice").await).await;
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
async fn alice_says_and_everybody_else_hears() {
    let parlor = Parlor::open().await;
    let login = parlor.login("alice").await;
    let (mut alice, mut phone) = (parlor.enter(&login).await, parlor.enter(&login).await);
    let mut bob = parlor.client("bob").await;
    let ack = alice.ask("message", json!({"text": "hi", "userId": "eve"})).await;
    assert_eq!((&ack["ok"], &ack["seq"], ack.as_object().unwrap().len()), (&json!(true), &json!(1), 3));
    for listener in [&mut bob, &mut phone] {
        let args = listener.event("message").await;
        assert_eq!(
            (&args[0]["id"], &args[0]["from"], &args[0]["seq"]),
            (&ack["id"], &json!("alice"), &json!(1))
        );
        assert!(args[1].as_str().unwrap().ends_with("-1"), "the offset is last: {args:?}");
    }
    assert!(messages(&alice.rest().await).is_empty(), "she knows it from the ack");
}

#[actix_rt::test]
async fn what_comes_right_behind_connect_is_not_lost_and_stays_in_order() {
    let parlor = Parlor::open().await;
    let mut bob = parlor.client("bob").await;
    let mut alice = parlor.dial(&parlor.login("alice").await).await;
    alice.send("40").await;
    alice.until("40{").await;
    let mut acks = Vec::new();
    for n in 0..20 {
        acks.push(alice.emit("message", json!({"text": n.to_string()})).await);
    }
    for (n, ack) in acks.into_iter().enumerate() {
        assert_eq!(alice.ack(ack).await["seq"], json!(n + 1));
        assert_eq!(bob.hears().await, n.to_string());
    }
}

#[actix_rt::test]
async fn a_logout_cuts_that_logins_sockets_and_no_others() {
    let parlor = Parlor::open().await;
    let (here, there) = (parlor.login("alice").await, parlor.login("alice").await);
    let (mut cut, mut kept) = (parlor.enter(&here).await, parlor.enter(&there).await);
    parlor.sessions.close(here.token.as_ref().unwrap()).await.unwrap();
    cut.until("41").await;
    while cut.next().await.is_some() {}
    assert_eq!(kept.ask("message", json!({"text": "still here"})).await["ok"], true);
    let mut back = parlor.dial(&here).await;
    back.send("40").await;
    assert!(back.until("44").await.contains("Authentication required"));
}

#[actix_rt::test]
async fn a_client_whose_session_ends_gets_the_cause_before_it_is_cut() {
    // How the session ends, and a part of the message; none where the client reconnects by itself.
    let table = [
        ("logout", Some("by a logout")),
        ("crowded", Some("at most 20 sessions")),
        ("age", Some("24 h after its login")),
        ("replaced", None),
    ];
    for (end, cause) in table {
        let parlor = Parlor::open().await;
        let login = parlor.login("alice").await;
        let (token, user) = (login.token.clone().unwrap(), "alice".parse().unwrap());
        let (mut alice, mut bob) = (parlor.enter(&login).await, parlor.client("bob").await);
        match end {
            "logout" => assert!(parlor.sessions.close(&token).await.unwrap()),
            "crowded" => {
                for _ in 0..sessions::PER_USER {
                    parlor.login("alice").await;
                }
            }
            "age" => {
                parlor.ahead.store(sessions::LIFETIME_SECONDS * 1_000, Ordering::Relaxed);
                parlor.login("carol").await;
            }
            _ => {
                let new = parlor.sessions.replace(&user, &[token]).await.unwrap();
                assert!(parlor.sessions.find(&new).await.unwrap().is_some());
            }
        }
        let mut packets = Vec::new();
        while let Some(packet) = alice.next().await {
            packets.push(packet);
        }
        let error = packets.iter().position(|packet| packet.starts_with("42[\"error\""));
        let out = packets.iter().position(|packet| packet == "41");
        let Some(cause) = cause else {
            assert_eq!((error, out), (None, None), "{end}: {packets:?}");
            continue;
        };
        assert!(error.is_some() && error < out, "{end}: {packets:?}");
        let event: Value = serde_json::from_str(&packets[error.unwrap()][2..]).unwrap();
        assert_eq!((&event[1]["ok"], &event[1]["code"]), (&json!(false), &json!("unauthorized")), "{end}");
        assert!(event[1]["message"].as_str().unwrap().contains(cause), "{end}: {event}");
        if end != "age" {
            assert_eq!(bob.ask("message", json!({"text": "still here"})).await["ok"], true, "{end}");
        }
    }
}

#[actix_rt::test]
async fn who_has_no_session_is_not_let_in_whatever_they_claim() {
    let parlor = Parlor::open().await;
    let mut eve = parlor.dial(&Login { user: String::new(), token: None }).await;
    eve.send("40{\"username\":\"alice\",\"token\":\"x\"}").await;
    let refused: Value = serde_json::from_str(eve.until("44").await.strip_prefix("44").unwrap()).unwrap();
    assert_eq!(refused["message"], "Authentication required");
    assert_eq!(refused["data"]["code"], "unauthorized");
}

#[actix_rt::test]
async fn who_claims_to_be_another_is_still_themselves() {
    let parlor = Parlor::open().await;
    let mut eve = parlor.dial(&parlor.login("eve").await).await;
    eve.send("40{\"username\":\"alice\"}").await;
    assert_eq!(eve.event("welcome").await[0]["username"], "eve");
}

#[actix_rt::test]
async fn one_socket_too_many_is_refused_until_one_goes() {
    let parlor = Parlor::with(Config { sockets_per_user: 2, ..Config::default() }).await;
    let login = parlor.login("alice").await;
    let (first, _second) = (parlor.enter(&login).await, parlor.enter(&login).await);
    let mut third = parlor.dial(&login).await;
    third.send("40").await;
    assert!(third.until("44").await.contains("\"code\":\"rate_limited\""));
    let mut bob = parlor.client("bob").await;
    assert_eq!(bob.ask("message", json!({"text": "room for me"})).await["ok"], true);
    drop(first);
    loop {
        let mut again = parlor.dial(&login).await;
        again.send("40").await;
        if again.next().await.unwrap().starts_with("40{") {
            break;
        }
    }
}

#[actix_rt::test]
async fn a_flood_that_waits_for_no_ack_is_told_so_before_it_is_cut() {
    let parlor = Parlor::open().await;
    let mut alice = parlor.client("alice").await;
    for n in 0..2_000 {
        // The server may cut the connection under this.
        let _ = alice.try_send(&format!("42[\"message\",{{\"text\":\"{n}\"}}]")).await;
    }
    let mut complaints = Vec::new();
    while let Some(packet) = alice.next().await {
        complaints.extend(packet.strip_prefix("42[\"error\",").map(str::to_owned));
    }
    assert!((2..10).contains(&complaints.len()), "first, now and then, and last: {complaints:?}");
    for complaint in complaints {
        let told: Value = serde_json::from_str(complaint.strip_suffix(']').unwrap()).unwrap();
        assert_eq!((&told["ok"], &told["code"]), (&json!(false), &json!("rate_limited")));
        assert!(told["retryAfter"].as_f64().unwrap() > 0.0, "{told}");
    }
}

#[actix_rt::test]
async fn a_flood_is_refused_with_a_time_to_wait_and_nothing_in_it_is_lost() {
    let parlor = Parlor::open().await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
    let mut acks = Vec::new();
    for n in 0..60 {
        acks.push(alice.emit("message", json!({"text": n.to_string()})).await);
    }
    let (mut said, mut refused) = (0, 0);
    for ack in acks {
        let answer = alice.ack(ack).await;
        if answer["ok"] == json!(true) {
            said += 1;
            assert_eq!(answer["seq"], json!(said));
        } else {
            refused += 1;
            assert_eq!(
                (&answer["code"], answer["retryAfter"].as_f64().unwrap() > 0.0),
                (&json!("rate_limited"), true)
            );
        }
    }
    assert!(said >= 20 && refused > 0, "{said} said, {refused} refused");
    for _ in 0..said {
        bob.hears().await;
    }
    assert!(messages(&bob.rest().await).is_empty());
}

#[actix_rt::test]
async fn typing_is_heard_and_its_end_too() {
    let parlor = Parlor::open().await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
    assert_eq!(alice.ask("typing", json!({"isTyping": true})).await, json!({"ok": true}));
    assert_eq!(bob.event("typing").await[0], json!({"users": ["alice"], "room": "lobby"}));
    alice.emit("typing", json!({"isTyping": false})).await;
    assert_eq!(bob.event("typing").await[0], json!({"users": [], "room": "lobby"}));
}

#[actix_rt::test]
async fn who_comes_and_goes_is_told() {
    let parlor = Parlor::open().await;
    let mut alice = parlor.client("alice").await;
    let (tab, other_tab) = (parlor.client("bob").await, parlor.client("bob").await);
    let until = async |alice: &mut parlor::Client, online: Value| {
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
    let (status, online) = parlor.http("alice", "GET", "/presence/online", Value::Null).await;
    assert_eq!((status, online), (200, json!({"online": ["alice"]})));
}

#[actix_rt::test]
async fn malformed_events_are_answered_and_harm_nobody() {
    let parlor = Parlor::open().await;
    let mut alice = parlor.client("alice").await;
    for (event, payload) in [("message", json!({"text": 1})), ("join", json!([])), ("no such", Value::Null)] {
        let refused = alice.ask(event, payload).await;
        assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("bad_request")), "{event}");
    }
    alice.send("42[\"message\"]").await;
    assert_eq!(alice.ask("message", json!({"text": "fine"})).await["seq"], 1);
}

#[actix_rt::test]
async fn a_drain_answers_what_was_accepted_and_refuses_what_comes_after() {
    let parlor = Parlor::open().await;
    let (mut alice, mut bob) = (parlor.client("alice").await, parlor.client("bob").await);
    assert_eq!(alice.ask("message", json!({"text": "last words"})).await["ok"], true);
    parlor.chat.drain().await;
    assert_eq!(alice.ask("message", json!({"text": "too late"})).await["code"], "unavailable");
    assert_eq!(bob.hears().await, "last words");
    let mut carol = parlor.dial(&parlor.login("carol").await).await;
    carol.send("40").await;
    // A refusal would keep a stock client away; a closed connection makes it come back.
    assert_eq!(carol.next().await, None);
}

#[actix_rt::test]
async fn what_piles_up_behind_a_slow_event_is_refused_beyond_a_bound() {
    let gate = Gate::of("slow");
    let parlor = Parlor::with_directory(Config::default(), |directory| gate.before(directory)).await;
    let mut alice = parlor.client("alice").await;
    alice.send(r#"42["join",{"room":"slow"}]"#).await;
    gate.was_read().await;
    for _ in 0..119 {
        alice.send(r#"42["leave",{"room":"lobby"}]"#).await;
    }
    let mut acks = Vec::new();
    for n in 1..=20 {
        acks.push(alice.emit("message", json!({"text": n.to_string()})).await);
    }
    // 128 wait: the leaves and nine messages.
    for ack in acks.split_off(9) {
        assert_eq!(alice.ack(ack).await["code"], "rate_limited");
    }
    gate.open();
    for (n, ack) in acks.into_iter().enumerate() {
        assert_eq!(alice.ack(ack).await["seq"], json!(n + 1));
    }
}
