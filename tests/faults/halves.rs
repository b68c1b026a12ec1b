//! The split system on stores that work by half, that are put back to an older state, or that another deployment uses, too.

use std::time::Duration;

use mongodb::{
    Client,
    bson::{Document, doc},
};
use serde_json::json;
use testkit::{MongoFault, RedisFault};
use tokio::time::sleep;

use crate::stage::{ACCOUNTS, Actor, NODES, Person, Request, Response, Socket, Stage, soon};

/// Two people on different nodes.
async fn on_two_nodes(stage: &Stage) -> (Actor, Actor) {
    let node_of = |actor: &Actor| actor.session.rsplit_once('.').map(|(_, node)| node.to_owned());
    let first = stage.enters("first").await;
    for n in 0..50 {
        let other = stage.enters(&format!("other{n}")).await;
        if node_of(&other) != node_of(&first) {
            return (first, other);
        }
    }
    panic!("everybody is on the same node");
}

/// Waits until a process names this cause.
async fn names(stage: &Stage, process: usize, word: &str) {
    soon(&format!("process {process} to name {word:?}"), async {
        while !stage.server.readiness(process).await.contains(word) {}
    })
    .await;
}

#[tokio::test]
async fn while_redis_refuses_writes_people_talk_on_and_passwords_cannot_be_guessed() {
    let mut stage = Stage::opens_split().await;
    let (mut alice, mut bob) = on_two_nodes(&stage).await;
    let carol = stage.person("carol").await;
    for refusal in RedisFault::ALL {
        let redis = &stage.server.stores.as_ref().expect("a split system").redis;
        refusal.inject(redis);
        let (one, two) = (format!("one {refusal:?}"), format!("two {refusal:?}"));
        alice.says(&one).await;
        bob.hears(&one).await;
        bob.says(&two).await;
        alice.hears(&two).await;
        for process in [ACCOUNTS, NODES[0], NODES[1]] {
            names(&stage, process, refusal.word()).await;
        }
        soon("the log to name the cause", async {
            while !stage.server.log().contains(refusal.word()) {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        for password in [carol.password.as_str(), "a wrong guess"] {
            let credentials = json!({"username": "carol", "password": password});
            let login = stage.stranger("carol").sends(Request::post("/user/login", &credentials)).await;
            assert_eq!(login.status, 503, "{refusal:?}: tells whether a guess is right: {login:?}");
        }
        assert_eq!(carol.gets("/user/me").await.status, 200, "{refusal:?}");
        refusal.clear(&stage.server.stores.as_ref().expect("a split system").redis);
        stage.server.is_ready().await;
        let back = format!("back {refusal:?}");
        alice.says(&back).await;
        bob.hears(&back).await;
    }
}

#[tokio::test]
async fn while_mongodb_refuses_writes_nothing_is_acked_or_shown_and_the_cause_is_named() {
    let mut stage = Stage::opens_split().await;
    let (mut alice, mut bob) = on_two_nodes(&stage).await;
    for fault in MongoFault::ALL {
        stage.server.stores.as_ref().expect("a split system").mongo.fail_writes(fault).await;
        let text = format!("said {fault:?}");
        let refused = alice.asks("message", &json!({"text": text, "clientId": text})).await;
        assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("unavailable")), "{fault:?}");
        for process in [ACCOUNTS, NODES[0], NODES[1]] {
            names(&stage, process, fault.word()).await;
        }
        stage.server.stores.as_ref().expect("a split system").mongo.restore_writes().await;
        stage.server.is_ready().await;
        soon("the same message to be stored", async {
            while alice.asks("message", &json!({"text": text, "clientId": text})).await["ok"] != true {}
        })
        .await;
        bob.hears(&text).await;
    }
    let stored = alice.person.reads_all("lobby").await;
    assert_eq!(stored.len(), MongoFault::ALL.len(), "each is stored once: {stored:?}");
}

/// A socket that stays: nodes close all that are there in some steps.
async fn comes_back(person: &Person) -> Socket {
    soon("a socket that stays", async {
        loop {
            if let Ok(mut socket) = person.tries(person.handshake()).await
                && socket.is_open_for(Duration::from_secs(3)).await
            {
                return socket;
            }
        }
    })
    .await
}

/// Numbers that were given in the history before are given again: whoever knows one of those reloads, and hears what is new.
#[tokio::test]
async fn when_messages_are_restored_from_a_backup_everybody_reloads() {
    let stage = Stage::opens_split().await;
    let (mut alice, mut bob) = on_two_nodes(&stage).await;
    for n in 1..=6 {
        alice.says(&format!("old {n}")).await;
        bob.hears(&format!("old {n}")).await;
    }
    let uri = stage.server.stores.as_ref().expect("a split system").mongo.uri();
    let client = Client::with_uri_str(uri).await.expect("an address");
    let messages = client.default_database().expect("it is named").collection::<Document>("messages");
    messages.delete_many(doc! {"seq": {"$gt": 3_i64}}).await.expect("changes");
    alice.ends().await;
    bob.ends().await;
    let (mut alice, mut bob) = (comes_back(&alice.person).await, comes_back(&bob.person).await);
    let said = alice.says("new 4").await;
    assert_eq!(said["seq"], 4, "{said}");
    bob.hears("new 4").await;
    bob.says("new 5").await;
    alice.hears("new 5").await;
    // Who asks from a place that does not exist any more gets the room anew, and not that there is nothing new.
    let joined = alice.asks("join", &json!({"room": "lobby", "since": 6})).await;
    assert_eq!(
        (&joined["head"], &joined["reset"], joined["messages"].as_array().map(Vec::len)),
        (&json!(5), &json!(true), Some(5)),
        "{joined}"
    );
}

#[tokio::test]
async fn deployments_on_the_same_stores_know_nothing_of_each_other() {
    let here = Stage::opens_split().await;
    let there = here.opens_beside("blue").await;
    let (mut alice, mut bob) = (here.enters("alice").await, here.enters("bob").await);
    let (mut other_alice, mut other_bob) = (there.enters("alice").await, there.enters("bob").await);
    let mut stranger = there.stranger("alice");
    stranger.token = alice.person.token.clone();
    assert_eq!(stranger.gets("/user/me").await.status, 401, "a session of another deployment");
    alice.says("here").await;
    other_alice.says("there").await;
    bob.hears("here").await;
    other_bob.hears("there").await;
    assert_eq!((bob.texts(), other_bob.texts()), (vec!["here"], vec!["there"]));
    there.enters("carol").await;
    alice.until("presence", |presence| presence["online"] == json!(["alice", "bob"])).await;
    other_alice.person.logs_out().await;
    other_alice.ends().await;
    alice.says("still here").await;
    bob.hears("still here").await;
    assert_eq!(alice.person.gets("/user/me").await.status, 200);
}

/// The nodes of both have the same names, and the people, too.
#[tokio::test]
async fn deployments_that_share_a_presence_service_see_their_own_people_alone() {
    let here = Stage::opens_split().await;
    let there = here.opens_within("blue").await;
    let (mut alice, mut bob) = (here.enters("alice").await, here.enters("bob").await);
    let (mut other_alice, mut carol) = (there.enters("alice").await, there.enters("carol").await);
    carol.until("presence", |presence| presence["online"] == json!(["alice", "carol"])).await;
    alice.until("presence", |presence| presence["online"] == json!(["alice", "bob"])).await;
    carol.asks("typing", &json!({"isTyping": true})).await;
    other_alice.until("typing", |typing| typing["users"] == json!(["carol"])).await;
    let listed = |presence: Response| presence.expect(200).json()["online"].clone();
    assert_eq!(listed(alice.person.gets("/presence/online").await), json!(["alice", "bob"]));
    assert_eq!(listed(carol.person.gets("/presence/online").await), json!(["alice", "carol"]));
    // A fence: what was on its way to alice has come.
    bob.asks("typing", &json!({"isTyping": true})).await;
    alice.until("typing", |typing| typing["users"] == json!(["bob"])).await;
    assert_eq!(alice.waiting("typing", |typing| typing.to_string().contains("carol")), 0);
    assert_eq!(alice.waiting("presence", |presence| presence.to_string().contains("carol")), 0);
}
