//! What is possible while a part of the split system is away, and what is refused at once instead of guessed.

use std::time::Duration;

use serde_json::json;

use crate::stage::{ACCOUNTS, NODES, NotLetIn, PRESENCE, Request, Stage, soon};

/// Redis knows who is logged in: without it nobody gets in, and who is in talks on.
#[tokio::test]
async fn without_redis_nobody_gets_in_and_who_is_in_talks_on() {
    let mut stage = Stage::opens_split().await;
    let (mut alice, mut bob) = (stage.enters("alice").await, stage.enters("bob").await);
    let carol = stage.person("carol").await;
    alice.says("before").await;
    bob.hears("before").await;
    stage.server.stores.as_mut().expect("a split system").redis.kill();
    // A fourth login within this moment would be one too many.
    for password in [carol.password.as_str(), "a wrong guess"] {
        let credentials = json!({"username": "carol", "password": password});
        let login = carol.sends(Request::post("/user/login", &credentials)).await;
        assert_eq!(login.status, 503, "tells whether a guess is right: {login:?}");
        let history = carol.asks(Request::get("/rooms/lobby/messages")).await;
        assert_eq!(history.status, 503, "{history:?}");
        assert!(carol.tries(carol.handshake()).await.is_err(), "let in on a guess");
    }
    alice.says("away").await;
    bob.hears("away").await;
    stage.server.stores.as_mut().expect("a split system").redis.restart();
    stage.server.is_ready().await;
    carol.connects().await;
    bob.says("after").await;
    alice.hears("after").await;
}

#[tokio::test]
async fn a_logout_outlives_a_crash_of_redis_and_cuts_sockets_on_every_node() {
    let mut stage = Stage::opens_split().await;
    let alice = stage.person("alice").await;
    let mut tabs = [alice.connects().await, alice.connects().await];
    alice.logs_out().await;
    for tab in &mut tabs {
        tab.ends().await;
    }
    let redis = &mut stage.server.stores.as_mut().expect("a split system").redis;
    redis.kill();
    redis.restart();
    stage.server.is_ready().await;
    assert_eq!(alice.asks(Request::get("/user/me")).await.status, 401);
    assert!(alice.tries(alice.handshake()).await.is_err());
}

#[tokio::test]
async fn without_mongodb_a_send_is_refused_in_time_and_nobody_is_shown_it() {
    let mut stage = Stage::opens_split().await;
    let (mut alice, mut bob) = (stage.enters("alice").await, stage.enters("bob").await);
    alice.says("before").await;
    bob.hears("before").await;
    stage.server.stores.as_mut().expect("a split system").mongo.kill();
    let refused = alice.asks("message", &json!({"text": "lost", "clientId": "c"})).await;
    assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("unavailable")), "{refused}");
    let login = alice.person.sends(Request::post("/user/login", &alice.person.credentials())).await;
    assert_eq!(login.status, 503, "{login:?}");
    let history = alice.asks("history", &json!({"room": "lobby"})).await;
    assert_eq!((&history["ok"], &history["code"]), (&json!(false), &json!("unavailable")), "{history}");
    let history = alice.person.asks(Request::get("/rooms/lobby/messages")).await;
    assert_eq!(history.status, 503, "{history:?}");
    // Which rooms are theirs nobody can say: ended without a refusal, after which stock clients would not come back.
    let late = bob.person.tries(bob.person.handshake()).await;
    assert!(matches!(late, Err(NotLetIn::Ended(_))), "let in on a guess, or refused");
    // What needs no store goes on.
    bob.asks("typing", &json!({"isTyping": true})).await;
    alice.until("typing", |typing| typing["users"] == json!(["bob"])).await;
    stage.server.stores.as_mut().expect("a split system").mongo.restart().await;
    stage.server.is_ready().await;
    soon("the same message to be stored", async {
        while alice.asks("message", &json!({"text": "lost", "clientId": "c"})).await["ok"] != true {}
    })
    .await;
    bob.hears("lost").await;
    assert_eq!(bob.texts(), ["before", "lost"]);
}

#[tokio::test]
async fn without_presence_people_talk_on_and_nobody_claims_to_know_who_is_here() {
    let mut stage = Stage::opens_split().await;
    let (mut alice, mut bob) = (stage.enters("alice").await, stage.enters("bob").await);
    stage.server.processes[PRESENCE].kill();
    alice.until("presence", |presence| presence["state"] == "unknown").await;
    alice.says("who is here?").await;
    bob.hears("who is here?").await;
    let mut carol = stage.enters("carol").await;
    carol.says("me").await;
    bob.hears("me").await;
    stage.server.process_returns(PRESENCE).await;
    alice.until("presence", |presence| presence["online"] == json!(["alice", "bob", "carol"])).await;
}

#[tokio::test]
async fn without_accounts_people_talk_on_and_nobody_logs_in() {
    let mut stage = Stage::opens_split().await;
    let (mut alice, mut bob) = (stage.enters("alice").await, stage.enters("bob").await);
    stage.server.processes[ACCOUNTS].kill();
    let login = alice.person.sends(Request::post("/user/login", &alice.person.credentials())).await;
    assert_eq!(login.status, 503, "{login:?}");
    alice.says("on we go").await;
    bob.hears("on we go").await;
    alice.person.connects().await;
}

/// Longer than sockets stay that nobody can verify, which is a minute.
const LONG: Duration = Duration::from_secs(90);

#[tokio::test]
async fn sockets_whose_logins_nobody_can_verify_any_more_are_closed_and_may_come_back() {
    let mut stage = Stage::opens_split().await;
    let mut alice = stage.enters("alice").await;
    stage.server.stores.as_mut().expect("a split system").redis.kill();
    assert!(!alice.is_open_for(LONG).await, "still open after {LONG:?}");
    assert_eq!(alice.ends().await.why, "session_unverifiable");
    stage.server.has_logged("nobody can say whether their sessions live").await;
    stage.server.stores.as_mut().expect("a split system").redis.restart();
    stage.server.is_ready().await;
    let mut back = alice.person.connects().await;
    back.says("again").await;
}

#[tokio::test]
async fn the_people_of_a_node_that_was_killed_are_offline() {
    let mut stage = Stage::opens_split().await;
    let mut bob = stage.enters("bob").await;
    let node_of = |session: &str| session.rsplit_once('.').map(|(_, node)| node.to_owned()).expect("a node");
    let (mut others, mut n) = (Vec::new(), 0);
    let alice = loop {
        let other = stage.enters(&format!("alice{n}")).await;
        if node_of(&other.session) != node_of(&bob.session) {
            break other;
        }
        others.push(other);
        n += 1;
    };
    let name = alice.person.name.clone();
    bob.until("presence:diff", |diff| diff["joined"].to_string().contains(&name)).await;
    let index = if node_of(&alice.session) == "one" { NODES[0] } else { NODES[1] };
    stage.server.processes[index].kill();
    bob.until("presence:diff", |diff| diff["left"].to_string().contains(&name)).await;
    let online = bob.person.asks(Request::get("/presence/online")).await.expect(200).json();
    assert!(!online.to_string().contains(&name) && online.to_string().contains("bob"), "{online}");
}
