//! What is possible while a part of the split system is away, and what is refused at once instead of guessed.

use serde_json::json;

use crate::stage::{ACCOUNTS, PRESENCE, Request, Stage, soon};

/// Redis knows who is logged in: without it nobody gets in, and who is in talks on.
#[tokio::test]
async fn without_redis_nobody_gets_in_and_who_is_in_talks_on() {
    let mut stage = Stage::opens_split().await;
    let (mut alice, mut bob) = (stage.enters("alice").await, stage.enters("bob").await);
    let carol = stage.person("carol").await;
    alice.says("before").await;
    bob.hears("before").await;
    stage.server.stores.as_mut().expect("a split system").redis.crashes();
    // A fourth login within this moment would be one too many.
    for _ in 0..2 {
        let login = carol.sends(Request::post("/user/login", &carol.credentials())).await;
        assert_eq!(login.status, 503, "{login:?}");
        let history = carol.asks(Request::get("/rooms/lobby/messages")).await;
        assert_eq!(history.status, 503, "{history:?}");
        assert!(carol.tries(carol.handshake()).await.is_err(), "let in on a guess");
    }
    alice.says("away").await;
    bob.hears("away").await;
    stage.server.stores.as_mut().expect("a split system").redis.returns();
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
    redis.crashes();
    redis.returns();
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
    stage.server.stores.as_mut().expect("a split system").mongo.crashes();
    let refused = alice.asks("message", &json!({"text": "lost", "clientId": "c"})).await;
    assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("unavailable")), "{refused}");
    let login = alice.person.sends(Request::post("/user/login", &alice.person.credentials())).await;
    assert_eq!(login.status, 503, "{login:?}");
    // What needs no store goes on.
    bob.asks("typing", &json!({"isTyping": true})).await;
    alice.until("typing", |typing| typing["users"] == json!(["bob"])).await;
    stage.server.stores.as_mut().expect("a split system").mongo.returns().await;
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
    stage.server.processes[PRESENCE].crashes();
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
    stage.server.processes[ACCOUNTS].crashes();
    let login = alice.person.sends(Request::post("/user/login", &alice.person.credentials())).await;
    assert_eq!(login.status, 503, "{login:?}");
    alice.says("on we go").await;
    bob.hears("on we go").await;
    alice.person.connects().await;
}
