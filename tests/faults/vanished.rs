//! What is checked or made at the start and vanishes while the roles run: the operation that relies on it notices, heals or refuses.

use mongodb::{Client, Database, bson::Document};
use serde_json::json;

use crate::stage::{Request, Stage, soon};

/// Indexes, by collection, that are created again.
const INDEXES: [(&str, &[&str]); 3] = [
    ("messages", &["room_seq", "room_author_client"]),
    ("rooms", &["members", "adders", "departures", "changed"]),
    ("closed_sessions", &["ends_1"]),
];

/// Commands that take something away from Redis.
const LOSSES: [&str; 9] = [
    "SCRIPT FLUSH",
    "DEL chat:nodes",
    "HDEL chat:nodes one",
    "DEL sessions:run",
    "DEL sessions-of:alice",
    "DEL {log}:stream {log}:offset {log}:epoch",
    "SET {log}:heads something-else",
    "CLIENT KILL TYPE pubsub",
    "CLIENT KILL TYPE normal SKIPME yes",
];

async fn database(stage: &Stage) -> Database {
    let uri = stage.server.stores.as_ref().expect("a split system").mongo.uri();
    Client::with_uri_str(uri).await.expect("an address").default_database().expect("it is named")
}

async fn indexes(database: &Database, collection: &str) -> Vec<String> {
    database.collection::<Document>(collection).list_index_names().await.unwrap_or_default()
}

/// Tries to: on a busy machine a store may be late.
async fn logs_in_and_out(stage: &Stage, name: &str) {
    let mut leaver = stage.stranger(name);
    leaver.sends(Request::post("/user/register", &leaver.credentials())).await;
    leaver.token = leaver.sends(Request::post("/user/login", &leaver.credentials())).await.token();
    if leaver.token.is_some() {
        leaver.posts("/user/logout", &json!({})).await;
    }
}

#[tokio::test]
async fn indexes_that_are_dropped_while_the_roles_run_are_created_again() {
    let stage = Stage::opens_split().await;
    let database = database(&stage).await;
    let alice = stage.enters("alice").await;
    let leaver = stage.person("leaver0").await;
    leaver.logs_out().await;
    for (collection, names) in INDEXES {
        let found = indexes(&database, collection).await;
        assert!(names.iter().all(|name| found.iter().any(|found| found == name)), "{collection}: {found:?}");
        database.collection::<Document>(collection).drop_indexes().await.expect("it drops them");
    }
    let mut number = 0;
    for (collection, names) in INDEXES {
        soon(&format!("the indexes of {collection}"), async {
            loop {
                let found = indexes(&database, collection).await;
                if names.iter().all(|name| found.iter().any(|found| found == name)) {
                    return;
                }
                // What relies on the index of closed sessions is a logout.
                number += 1;
                logs_in_and_out(&stage, &format!("leaver{number}")).await;
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        })
        .await;
    }
    // Names of users and rooms, and the numbers of messages, are primary keys: nothing that can be dropped keeps them unique.
    let again = stage.stranger("alice");
    let taken = again.sends(Request::post("/user/register", &again.credentials())).await;
    assert_eq!(taken.status, 409, "{taken:?}");
    alice.person.creates_room("tea", false).await;
    assert_eq!(alice.person.posts("/rooms", &json!({"name": "tea"})).await.status, 409);
}

#[tokio::test]
async fn what_is_taken_from_redis_while_the_roles_run_is_made_again() {
    let mut stage = Stage::opens_split().await;
    let (mut alice, mut bob) = (stage.enters("alice").await, stage.enters("bob").await);
    for (number, loss) in LOSSES.into_iter().enumerate() {
        stage.server.stores.as_ref().expect("a split system").redis.execute(loss);
        let (one, two) = (format!("one {number}"), format!("two {number}"));
        alice.says(&one).await;
        bob.hears(&one).await;
        stage.server.is_ready().await;
        soon(&format!("{loss}: somebody new"), async {
            let mut carol = stage.enters(&format!("carol{number}")).await;
            carol.says(&two).await;
            alice.hears(&two).await;
            bob.hears(&two).await;
            carol.person.logs_out().await;
            carol.ends().await;
        })
        .await;
    }
}
