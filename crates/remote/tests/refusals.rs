//! Writes to one collection that MongoDB refuses, while it accepts writes to others, are reported until it accepts them again.

use std::time::{Duration, Instant};

use mongodb::{
    Client, Database,
    bson::{Bson, Document, doc, oid::ObjectId},
    error::Error as MongoError,
};
use remote::mongo::{Documents, Operation, Store, Writes, answered, collection};
use testkit::Mongo;

/// The maximum time of a step on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A store with a collection `items`, and the checks of the whole store.
struct Fixture {
    mongo: Mongo,
    database: Database,
    items: Documents<Document>,
    others: Documents<Document>,
    writes: Writes,
}

/// A way to make MongoDB refuse writes to `items`.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// A validator that no document passes.
    Validator,
    /// An error code of inserts, updates and deletes.
    Code(i32),
    /// No answer.
    Hangs,
    /// The end of the connection.
    Cut,
    /// No acknowledgement by a majority.
    Unconfirmed,
}

impl Fault {
    /// Parts of the report.
    fn words(self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Validator => &["validator", "121 DocumentValidationFailure"],
            Self::Code(13) => &["grant the rights", "13 Unauthorized"],
            Self::Code(14_031) => &["no disk space", "14031 OutOfDiskSpace"],
            Self::Code(code @ (10_107 | 189 | 13_435)) => {
                return vec!["not the primary".to_owned(), "replicaSet=".to_owned(), format!(": {code} ")];
            }
            Self::Code(code @ (91 | 11_600)) => {
                return vec!["shutting down".to_owned(), format!(": {code} ")];
            }
            Self::Code(code) => return vec!["refuses an operation".to_owned(), code.to_string()],
            Self::Hangs => &["does not answer a write"],
            Self::Cut => &["ends the connection before it answers a write"],
            Self::Unconfirmed => &["does not confirm writes", "64 WriteConcern"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

fn trial() -> Document {
    doc! { "_id": ObjectId::new(), "n": 1 }
}

impl Fixture {
    async fn start() -> Self {
        let mongo = Mongo::start().await;
        let client = Client::with_uri_str(mongo.uri()).await.expect("an address");
        let database = client.default_database().expect("the address names a database");
        let store = Store::from(&database);
        let items = collection(&store, "items").with_trial(trial);
        let others = collection(&store, "others");
        let this = Self { mongo, database, items, others, writes: Writes::new(&store) };
        for operation in [Operation::Insert, Operation::Update, Operation::Delete] {
            this.write(operation).await.expect("MongoDB accepts writes");
        }
        this.wait_for_reason(&[]).await;
        this
    }

    async fn write(&self, operation: Operation) -> Result<(), MongoError> {
        write(&self.items, operation).await
    }

    async fn inject(&self, fault: Fault) {
        match fault {
            Fault::Validator => self.validate(doc! { "absent": { "$exists": true } }).await,
            Fault::Code(code) => self.fail(doc! { "errorCode": code }).await,
            Fault::Hangs => self.fail(doc! { "blockConnection": true, "blockTimeMS": 6_000 }).await,
            Fault::Cut => self.fail(doc! { "closeConnection": true }).await,
            Fault::Unconfirmed => {
                let refused = doc! { "code": 64, "errmsg": "waiting for replication timed out" };
                self.fail(doc! { "writeConcernError": refused }).await;
            }
        }
    }

    async fn clear(&self, fault: Fault) {
        match fault {
            Fault::Validator => self.validate(doc! {}).await,
            Fault::Code(_) | Fault::Hangs | Fault::Cut | Fault::Unconfirmed => {
                self.mongo.restore_writes().await
            }
        }
    }

    async fn validate(&self, validator: Document) {
        let change = doc! { "collMod": "items", "validator": validator };
        self.database.run_command(change).await.expect("an administrator");
    }

    async fn fail(&self, data: Document) {
        self.fail_in_mode("alwaysOn", data).await;
    }

    async fn fail_in_mode(&self, mode: impl Into<Bson>, mut data: Document) {
        data.insert("failCommands", ["insert", "update", "delete"]);
        data.insert("namespace", "godzilla.items");
        let fault = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        self.database.client().database("admin").run_command(fault).await.expect("test commands are enabled");
    }

    /// Repeats the check until the reason contains all words, or until there is no reason when `words` is empty.
    async fn wait_for_reason(&self, words: &[String]) {
        let until = Instant::now() + TIMEOUT;
        loop {
            let reason = self.writes.not_ready_reason().await;
            let is_expected = match &reason {
                None => words.is_empty(),
                Some(reason) => !words.is_empty() && words.iter().all(|word| reason.contains(word)),
            };
            if is_expected {
                return;
            }
            assert!(Instant::now() < until, "expected {words:?}, got {reason:?}");
            tokio::task::yield_now().await;
        }
    }
}

async fn write(items: &Documents<Document>, operation: Operation) -> Result<(), MongoError> {
    let item = doc! { "_id": "real" };
    let set = doc! { "$set": { "n": ObjectId::new() } };
    match operation {
        Operation::Insert => {
            items.write(operation, async |items| items.insert_one(trial()).await.map(drop)).await
        }
        Operation::Update => {
            items
                .write(operation, async |items| items.update_one(item, set).upsert(true).await.map(drop))
                .await
        }
        Operation::Delete => {
            items.write(operation, async |items| items.delete_one(doc! { "n": 1 }).await.map(drop)).await
        }
        Operation::Index => unreachable!("no case"),
    }
}

#[tokio::test]
async fn refused_writes_to_one_collection_are_reported_until_they_are_accepted() {
    let fixture = Fixture::start().await;
    let cases = [
        (Fault::Validator, Operation::Insert, "insert into items", true),
        (Fault::Validator, Operation::Update, "update of items", false),
        (Fault::Code(14_031), Operation::Insert, "insert into items", false),
        (Fault::Code(13), Operation::Delete, "delete from items", true),
        (Fault::Code(8_765), Operation::Update, "update of items", false),
        (Fault::Hangs, Operation::Insert, "insert into items", true),
        // Faults of the connection or the state of the server, which its checks do not find.
        (Fault::Code(10_107), Operation::Insert, "insert into items", true),
        (Fault::Code(189), Operation::Update, "update of items", true),
        (Fault::Code(13_435), Operation::Delete, "delete from items", false),
        (Fault::Cut, Operation::Insert, "insert into items", true),
        (Fault::Cut, Operation::Delete, "delete from items", false),
        (Fault::Unconfirmed, Operation::Insert, "insert into items", false),
    ];
    for (fault, operation, place, is_cleared_by_trial) in cases {
        fixture.inject(fault).await;
        let refused = answered(fixture.write(operation)).await;
        assert!(refused.is_err(), "{fault:?}: {refused:?}");
        let mut words = fault.words();
        words.push(place.to_owned());
        fixture.wait_for_reason(&words).await;
        // Writes to another collection neither fail nor clear the record.
        write(&fixture.others, operation).await.expect("MongoDB accepts writes to other collections");
        fixture.wait_for_reason(&words).await;
        fixture.clear(fault).await;
        if !is_cleared_by_trial {
            fixture.write(operation).await.expect("MongoDB accepts writes again");
            assert_eq!(fixture.writes.not_ready_reason().await, None, "{fault:?}");
        }
        fixture.wait_for_reason(&[]).await;
    }
    let stored = fixture.items.count_documents(doc! { "n": { "$type": "int" } }).await.expect("an answer");
    let inserted = fixture.items.count_documents(doc! {}).await.expect("an answer");
    assert!(stored <= 2 && inserted <= 3, "trials leave no documents: {stored} of {inserted}");
}

#[tokio::test]
async fn a_trial_is_refused_as_long_as_real_writes_would_be() {
    let fixture = Fixture::start().await;
    fixture.inject(Fault::Validator).await;
    answered(fixture.write(Operation::Insert)).await.expect_err("a validator");
    // The trial finds the next cause by itself: no write of a client follows.
    let mut words = Fault::Code(13).words();
    fixture.inject(Fault::Code(13)).await;
    words.push("insert into items".to_owned());
    fixture.wait_for_reason(&words).await;
    fixture.clear(Fault::Code(13)).await;
    fixture.wait_for_reason(&Fault::Validator.words()).await;
    fixture.clear(Fault::Validator).await;
    fixture.wait_for_reason(&[]).await;
}

#[tokio::test]
async fn one_transient_refusal_is_not_reported_and_a_second_one_is() {
    let fixture = Fixture::start().await;
    for (code, times) in [(50, 1), (24, 1), (13, 1), (50, 2)] {
        fixture.fail_in_mode(doc! { "times": times }, doc! { "errorCode": code }).await;
        for _ in 0..times {
            assert!(fixture.write(Operation::Insert).await.is_err(), "{code}");
        }
        let reason = fixture.writes.not_ready_reason().await;
        assert_eq!(reason.is_some(), times > 1, "{code} {times} times: {reason:?}");
        fixture.write(Operation::Insert).await.expect("MongoDB accepts writes again");
        assert_eq!(fixture.writes.not_ready_reason().await, None, "{code}");
    }
}

#[tokio::test]
async fn a_write_that_matches_no_document_does_not_end_a_refusal() {
    let fixture = Fixture::start().await;
    let absent = || doc! { "_id": "absent" };
    let set = doc! { "$set": { "n": 2 } };
    fixture.inject(Fault::Code(13)).await;
    for operation in [Operation::Update, Operation::Delete] {
        for _ in 0..2 {
            assert!(fixture.write(operation).await.is_err(), "{operation:?}");
        }
    }
    fixture.clear(Fault::Code(13)).await;
    let (items, set) = (&fixture.items, &set);
    items
        .write(Operation::Update, async |items| items.update_one(absent(), set.clone()).await)
        .await
        .expect("an answer");
    items
        .write(Operation::Update, async |items| items.find_one_and_update(absent(), set.clone()).await)
        .await
        .expect("an answer");
    items.write(Operation::Delete, async |items| items.delete_one(absent()).await).await.expect("an answer");
    let reason = fixture.writes.not_ready_reason().await.expect("both operations are refused");
    assert!(reason.contains("update of items") && reason.contains("delete from items"), "{reason}");
}

#[tokio::test]
async fn errors_of_one_document_are_no_faults_of_the_store() {
    let fixture = Fixture::start().await;
    let same = doc! { "_id": "same" };
    for _ in 0..2 {
        let same = same.clone();
        let _ = fixture.items.write(Operation::Insert, async |items| items.insert_one(same).await).await;
    }
    let twice = [doc! { "_id": "new" }, same];
    let duplicate =
        fixture.items.write(Operation::Insert, async |items| items.insert_many(twice).await).await;
    assert!(duplicate.is_err());
    let huge = doc! { "text": "x".repeat(17 * 1024 * 1024) };
    let oversized = fixture.items.write(Operation::Insert, async |items| items.insert_one(huge).await).await;
    assert!(oversized.is_err());
    let cancelled =
        fixture.items.write(Operation::Insert, async |_| std::future::pending::<Result<(), _>>().await);
    drop(tokio::time::timeout(Duration::ZERO, cancelled).await);
    assert_eq!(fixture.writes.not_ready_reason().await, None);
}

#[tokio::test]
async fn a_lock_for_a_backup_is_named() {
    let fixture = Fixture::start().await;
    let admin = fixture.database.client().database("admin");
    admin.run_command(doc! { "fsync": 1, "lock": true }).await.expect("an administrator");
    fixture.wait_for_reason(&["fsyncLock, as for a backup".to_owned(), "fsyncUnlock".to_owned()]).await;
    admin.run_command(doc! { "fsyncUnlock": 1 }).await.expect("an administrator");
    fixture.wait_for_reason(&[]).await;
}
