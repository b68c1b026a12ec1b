//! Tests of users in a real MongoDB: the conformance suite and a crash.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use accounts::{Creation, MongoUsers, Users, users::conformance};
use mongodb::{Client, Database, options::ClientOptions};
use testkit::Mongo;

/// A client as the binary creates it, with shorter timeouts.
async fn client(mongo: &Mongo) -> Client {
    let mut options = ClientOptions::parse(mongo.uri()).await.expect("an address");
    options.server_selection_timeout = Some(Duration::from_secs(2));
    Client::with_options(options).expect("good options")
}

async fn database(mongo: &Mongo) -> Database {
    client(mongo).await.default_database().expect("the address names one")
}

#[tokio::test]
async fn conforms() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let number = AtomicU32::new(0);
    let make = || {
        let name = format!("law{}", number.fetch_add(1, Ordering::Relaxed));
        let users = MongoUsers::new(&client.database(&name));
        async { Arc::new(users) as Arc<dyn Users> }
    };
    conformance::run(make).await.unwrap();
}

#[tokio::test]
async fn a_user_survives_a_crash_and_calls_fail_without_mongodb() {
    let mut mongo = Mongo::start().await;
    let users = MongoUsers::new(&database(&mongo).await);
    let alice = "Alice".parse().unwrap();
    assert_eq!(users.create(&alice, "hash").await.unwrap(), Creation::Created);
    mongo.kill();
    assert!(users.find("alice").await.is_err(), "no result without MongoDB");
    mongo.restart().await;
    // The driver needs a moment to detect the restart.
    let back = async {
        loop {
            if let Ok(found) = users.find("alice").await {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(20), back).await.expect("MongoDB is back");
    assert_eq!(found.expect("it was stored").hash, "hash");
    assert_eq!(users.create(&alice, "other").await.unwrap(), Creation::Exists);
}
