//! Tests of users in a real MongoDB: the conformance suite and a crash.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use accounts::{Creation, MongoUsers, Users, users::conformance};
use mongodb::{Client, Database, bson::doc, options::ClientOptions};
use remote::mongo::Store;
use sessions::{MongoRevocations, Revocations};
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
async fn a_wrong_password_of_mongodb_is_named() {
    let mongo = Mongo::start().await;
    let uri = mongo.uri().replace("mongodb://", "mongodb://unknown:wrong@");
    let client = mongodb::Client::with_uri_str(uri).await.unwrap();
    let users = MongoUsers::new(&client.database("godzilla"));
    assert_eq!(users.not_ready_reason().await.as_deref(), Some("refuses the user or the password"));
}

/// A validator makes one collection refuse its writes. Reads and writes to other collections succeed.
#[tokio::test]
async fn a_collection_that_refuses_writes_is_named() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let store = Store::from(&database);
    let (users, revocations) = (MongoUsers::new(&store), MongoRevocations::new(&store));
    let number = AtomicU32::new(0);
    let hashes = std::cell::Cell::new(("hash", "other"));
    let write = async |write: &str| -> Result<(), String> {
        let count = number.fetch_add(1, Ordering::Relaxed);
        let name = format!("alice{count}");
        let refused = |error: accounts::Error| {
            assert_eq!(error.status(), 503);
            error.to_string()
        };
        match write {
            "insert into users" => {
                users.create(&name.parse().unwrap(), "hash").await.map(drop).map_err(refused)
            }
            "update of users" => {
                // MongoDB does not validate an update that changes nothing.
                let hashes = hashes.get();
                users.renew("alice0", hashes.0, hashes.1).await.map_err(refused)
            }
            "update of closed_sessions" => {
                let session = format!("{count:064x}").parse().unwrap();
                revocations.add(&[session]).await.map_err(|error| error.to_string())
            }
            _ => revocations.generation(0).await.map(drop).map_err(|error| error.to_string()),
        }
    };
    let validate = async |write: &str, validator| {
        let collection = write.rsplit(' ').next().unwrap();
        database.run_command(doc! { "collMod": collection, "validator": validator }).await.unwrap();
    };
    let writes = [
        "insert into users",
        "update of users",
        "update of closed_sessions",
        "update of closed_sessions_told",
    ];
    for kind in writes {
        hashes.set(("hash", "other"));
        write(kind).await.unwrap();
        assert_eq!(users.not_ready_reason().await, None);
        validate(kind, doc! { "absent": { "$exists": true } }).await;
        hashes.set(("other", "hash"));
        let refused = write(kind).await.unwrap_err();
        if kind.ends_with(" users") {
            assert_eq!(refused, "The store refuses the operation, try again");
        }
        let reason = users.not_ready_reason().await.expect("a write was refused");
        assert!(reason.contains(&format!("({kind}: 121 DocumentValidationFailure)")), "{reason}");
        validate(kind, doc! {}).await;
        write(kind).await.unwrap();
        assert_eq!(users.not_ready_reason().await, None, "{kind}");
    }
}

#[tokio::test]
async fn a_user_survives_a_crash_and_calls_fail_without_mongodb() {
    let mut mongo = Mongo::start().await;
    let users = MongoUsers::new(&database(&mongo).await);
    let alice = "Alice".parse().unwrap();
    assert_eq!(users.create(&alice, "hash").await.unwrap(), Creation::Created);
    assert_eq!(users.not_ready_reason().await, None);
    mongo.kill();
    assert!(users.find("alice").await.is_err(), "no result without MongoDB");
    let refuses = "refuses connections: check that it runs, and the host and port of its address";
    let not_ready_reason = users.not_ready_reason().await.expect("MongoDB is away");
    assert!(not_ready_reason.starts_with(refuses), "{not_ready_reason}");
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

/// A unique index of another program is no name that is taken: the write is refused, and the index is named.
#[tokio::test]
async fn a_unique_index_of_another_program_is_named() {
    let cases = [
        ("insert into users", "users", doc! { "email": 1 }),
        ("insert into users", "users", doc! { "hash": 1 }),
        ("insert into users", "users", doc! { "email": 1, "created.day": 1 }),
        ("update of closed_sessions", "closed_sessions", doc! { "email": 1 }),
    ];
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    for (number, (kind, collection, keys)) in cases.into_iter().enumerate() {
        let database = client.database(&format!("foreign{number}"));
        let store = Store::from(&database);
        let (users, revocations) = (MongoUsers::new(&store), MongoRevocations::new(&store));
        let write = async |name: &str| match collection {
            "users" => users
                .create(&name.parse().unwrap(), "hash")
                .await
                .map_err(|error| assert_eq!(error.status(), 503, "{kind}: {error}")),
            _ => {
                let session = format!("{:064x}", name.len()).parse().unwrap();
                revocations.add(&[session]).await.map(|()| Creation::Created).map_err(drop)
            }
        };
        assert_eq!(write("alice").await, Ok(Creation::Created));
        let index = doc! { "name": "their_index", "key": keys, "unique": true };
        database.run_command(doc! { "createIndexes": collection, "indexes": [index] }).await.unwrap();
        assert_eq!(write("robert").await, Err(()), "{kind}");
        // The roles' own index still decides about names.
        if collection == "users" {
            assert_eq!(write("alice").await, Ok(Creation::Exists), "{kind}");
        }
        let reason = users.not_ready_reason().await.expect("a write was refused");
        for word in
            ["a unique index of another program", &format!("({kind}: 11000 DuplicateKey, index their_index)")]
        {
            assert!(reason.contains(word), "{kind}: {reason}");
        }
        database
            .run_command(doc! { "dropIndexes": collection, "index": "their_index" })
            .await
            .expect("MongoDB answers");
        assert_eq!(write("robert").await, Ok(Creation::Created), "{kind}");
        assert_eq!(users.not_ready_reason().await, None, "{kind}");
    }
}

/// The documents of these collections in new collections, as `mongorestore --drop` makes them.
async fn restore(database: &Database, names: &[&str]) {
    use futures_util::TryStreamExt;
    for name in names {
        let old = database.collection::<mongodb::bson::Document>(name);
        let documents: Vec<_> =
            old.find(doc! {}).await.expect("MongoDB answers").try_collect().await.expect("MongoDB answers");
        old.drop().await.expect("MongoDB answers");
        database.create_collection(*name).await.expect("MongoDB answers");
        old.insert_many(documents).await.expect("MongoDB answers");
    }
}

/// Names of lost users are not given away. A restore of all collections, and a confirmation, permit registrations again.
#[tokio::test]
async fn no_user_is_registered_in_a_collection_that_was_dropped_or_restored_alone() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let name = |name: &str| name.parse().expect("MongoDB answers");
    let confirm = async |database: &Database| {
        let notes = database.collection::<mongodb::bson::Document>("lineage");
        notes.delete_one(doc! { "_id": "users" }).await.unwrap();
    };
    // What happens, whether registrations are refused, and whether the user is found.
    for (case, is_refused, is_found) in [
        ("nothing", false, true),
        ("dropped", true, false),
        ("dropped and created", true, false),
        ("restored alone", true, true),
        ("restored together", false, true),
        ("dropped with the notes", false, false),
    ] {
        let database = client.database(&case.replace(' ', "_"));
        let users = MongoUsers::new(&database);
        assert_eq!(users.create(&name("Alice"), "hash").await.unwrap(), Creation::Created, "{case}");
        assert_eq!(users.registration_problem().await, None, "{case}");
        let collection = database.collection::<mongodb::bson::Document>("users");
        match case {
            "dropped" => collection.drop().await.unwrap(),
            "dropped and created" => {
                collection.drop().await.unwrap();
                database.create_collection("users").await.unwrap();
            }
            "restored alone" => restore(&database, &["users"]).await,
            "restored together" => restore(&database, &["users", "lineage"]).await,
            "dropped with the notes" => database.drop().await.unwrap(),
            _ => {}
        }
        // Another process, which starts now, finds the same.
        for users in [&users, &MongoUsers::new(&database)] {
            assert_eq!(users.check_collection().await.is_err(), is_refused, "{case}");
            let created = users.create(&name("Mallory"), "hash").await;
            assert_eq!(created.is_err(), is_refused, "{case}: {created:?}");
            assert_eq!(users.find("alice").await.unwrap().is_some(), is_found, "{case}: users are found");
            assert_eq!(users.not_ready_reason().await, None, "{case}: users who exist log in");
            let problem = users.registration_problem().await;
            assert_eq!(problem.is_some(), is_refused, "{case}: {problem:?}");
            if let Err(error) = created {
                assert_eq!(error.status(), 503, "{case}");
                let problem = problem.unwrap();
                assert!(problem.contains("collection users") && problem.contains("deleteOne"), "{problem}");
            }
        }
        confirm(&database).await;
        assert_eq!(users.registration_problem().await, None, "{case}");
        assert_eq!(users.create(&name("Bob"), "hash").await.unwrap(), Creation::Created, "{case}");
        database.collection::<mongodb::bson::Document>("users").drop().await.unwrap();
        assert!(
            users.create(&name("Carol"), "hash").await.is_err(),
            "{case}: the confirmed collection is noted"
        );
    }
}
