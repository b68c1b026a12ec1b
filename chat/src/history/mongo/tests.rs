//! Tests of [`MongoHistory`] on a real MongoDB: the conformance suite, concurrent writers, crashes, damaged documents.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mongodb::{
    Client, Database,
    bson::{DateTime, Document, doc},
    options::{ClientOptions, ReadConcern},
};
use proto::{
    RoomName, Timestamp,
    event::{Settings, SettingsPatch},
};
use testkit::Mongo;

use super::{MongoHistory, append::resend_filter, document::NewMessage};
use crate::{
    Error,
    config::STORE_DEADLINE,
    directory::shorthand::Shorthand,
    history::{Appended, Draft, History, Outcome, RoomHead, conformance},
    mongo_store::MongoStore,
    text::Text,
};

/// A client as the binary creates it, with short timeouts.
async fn client(mongo: &Mongo) -> Client {
    let mut options = ClientOptions::parse(mongo.uri()).await.unwrap();
    options.server_selection_timeout = Some(Duration::from_secs(2));
    options.connect_timeout = Some(Duration::from_secs(2));
    options.heartbeat_freq = Some(Duration::from_secs(1));
    Client::with_options(options).unwrap()
}

async fn database(mongo: &Mongo) -> Database {
    client(mongo).await.default_database().unwrap()
}

fn room() -> RoomName {
    "tea".parse().unwrap()
}

fn draft(author: &str, text: &str, client_id: Option<&str>) -> Draft {
    Draft {
        id: crate::id::new_id().unwrap(),
        author: author.parse().unwrap(),
        text: Text::parse(text.to_owned(), 1000).unwrap(),
        client_id: client_id.map(|id| id.to_owned().try_into().unwrap()),
        timestamp: Timestamp(1000),
        origin: None,
    }
}

async fn append(history: &MongoHistory, head: u64, drafts: Vec<Draft>) -> Result<Appended, Error> {
    history.append(&room(), head, drafts.into(), Box::new(|_| ())).await
}

/// Appends as a room does: after [`Error::Fenced`] it retries from the returned head.
async fn append_at_head(history: &MongoHistory, drafts: Vec<Draft>) -> Result<Appended, Error> {
    let mut head = history.head(&room()).await?.seq;
    loop {
        match append(history, head, drafts.clone()).await {
            Err(Error::Fenced { head: stored }) => head = stored.seq,
            other => return other,
        }
    }
}

async fn all(history: &MongoHistory) -> Vec<(u64, String)> {
    let mut all: Vec<(u64, String)> = vec![];
    loop {
        let after = all.last().map_or(0, |(seq, _)| *seq);
        let slice = history.since(&room(), after, 500).await.unwrap();
        if slice.messages.is_empty() {
            assert_eq!(slice.head, after);
            return all;
        }
        all.extend(slice.messages.into_iter().map(|stored| (stored.message.seq, stored.message.data.text)));
    }
}

/// Retries until the call succeeds.
async fn retry_until_ok<T, E: std::fmt::Debug>(mut what: impl AsyncFnMut() -> Result<T, E>) -> T {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match what().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < until, "{error:?}"),
        }
    }
}

#[actix_rt::test]
async fn passes_the_history_conformance_suite() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let number = AtomicU32::new(0);
    let fresh = || {
        let name = format!("suite{}", number.fetch_add(1, Ordering::Relaxed));
        (Arc::new(MongoHistory::new(&client.database(&name))) as Arc<dyn History>, ())
    };
    conformance::run(fresh).await;
}

#[actix_rt::test]
async fn two_writers_produce_one_order_without_gaps() {
    let mongo = Mongo::start().await;
    let write = async |name: &'static str| {
        let history = MongoHistory::new(&database(&mongo).await);
        let (mut n, mut stored) = (0, BTreeMap::new());
        while n < 200 {
            let texts: Vec<String> = (n..200.min(n + 1 + n % 7)).map(|n| format!("{name} {n:03}")).collect();
            n += texts.len();
            let drafts = texts.iter().map(|text| draft(name, text, Some(text))).collect();
            let appended = append_at_head(&history, drafts).await.unwrap();
            for (text, outcome) in texts.into_iter().zip(appended.outcomes) {
                let Outcome::Stored { seq, offset: None } = outcome else { panic!("{text}: {outcome:?}") };
                stored.insert(seq, text);
            }
        }
        stored
    };
    let read = async {
        let (history, mut read) = (MongoHistory::new(&database(&mongo).await), 0);
        while read < 400 {
            let slice = history.since(&room(), 0, 500).await.unwrap();
            read = slice.messages.len() as u64;
            assert_eq!(slice.head, read, "the head does not exceed the messages");
        }
    };
    let (alice, bob, ()) = tokio::join!(write("alice"), write("bob"), read);
    let stored = all(&MongoHistory::new(&database(&mongo).await)).await;
    assert!(stored.iter().map(|(seq, _)| *seq).eq(1..=400), "no gaps and no duplicates: {stored:?}");
    for (name, acknowledged) in [("alice", alice), ("bob", bob)] {
        let theirs: BTreeMap<u64, String> =
            stored.iter().filter(|(_, text)| text.starts_with(name)).cloned().collect();
        assert_eq!(theirs, acknowledged, "the acknowledged numbers are the stored ones");
        assert!(theirs.values().is_sorted(), "in the order of the sends");
    }
}

/// MongoDB writes a long batch in parts. After the first part another writer inserts a message with a number and `client_id` of the
/// remaining part.
#[actix_rt::test]
async fn batch_continues_after_a_conflicting_message() {
    const LONG: u64 = 2000;
    let mongo = Mongo::start().await;
    let (one, other) =
        (MongoHistory::new(&database(&mongo).await), MongoHistory::new(&database(&mongo).await));
    one.prepare().await.unwrap();
    let mut head = 0;
    let long = loop {
        assert!(head < 20 * LONG, "the other writer was never in time");
        let texts: Vec<String> = (1..=LONG).map(|n| format!("text {}", head + n)).collect();
        let long = append(&one, head, texts.iter().map(|text| draft("alice", text, Some(text))).collect());
        let short = async {
            let first = doc! { "room": "tea", "seq": i64::try_from(head + 1).unwrap() };
            let begun = || other.messages.find_one(first.clone()).read_concern(ReadConcern::local());
            while begun().await.unwrap().is_none() {}
            let at = RoomHead { seq: head + LONG - 100, timestamp: Timestamp(5000) };
            let text = format!("text {}", head + LONG - 50);
            other.insert(&[NewMessage::of(&draft("Alice", &text, Some(&text)), &room(), at)]).await.unwrap()
        };
        let (long, short) = tokio::join!(long, short);
        if short == 1 {
            break long.unwrap();
        }
        head += LONG;
    };
    assert_eq!(long.head, RoomHead { seq: head + LONG, timestamp: Timestamp(5000) });
    for (n, outcome) in (1..=LONG).zip(&long.outcomes) {
        let seq = head + if (LONG - 100..LONG - 50).contains(&n) { n + 1 } else { n };
        match outcome {
            Outcome::Stored { seq: acknowledged, .. } => {
                assert_eq!((*acknowledged, n == LONG - 50), (seq, false))
            }
            Outcome::Duplicate { seq: first, .. } => {
                assert_eq!((*first, n), (head + LONG - 100, LONG - 50));
            }
            refused => panic!("{n}: {refused:?}"),
        }
    }
    let stored = all(&one).await;
    assert!(stored.iter().map(|(seq, _)| *seq).eq(1..=head + LONG), "no gaps");
    for (n, outcome) in (1..=LONG).zip(&long.outcomes) {
        let at = usize::try_from(conformance::seq(outcome)).unwrap();
        assert_eq!(stored[at - 1], (at as u64, format!("text {}", head + n)), "at the acknowledged number");
    }
}

#[actix_rt::test]
async fn fifty_concurrent_resends_store_one_message() {
    let mongo = Mongo::start().await;
    let nodes = [MongoHistory::new(&database(&mongo).await), MongoHistory::new(&database(&mongo).await)];
    let sends = (0..50).map(|n| {
        let author = if n % 3 == 0 { "ALICE" } else { "alice" };
        append_at_head(&nodes[n % 2], vec![draft(author, "hi", Some("{\"$gt\":\"\"}"))])
    });
    let answers: Vec<Outcome> =
        join_all(sends).await.into_iter().map(|answer| answer.unwrap().outcomes[0].clone()).collect();
    let stored = answers.iter().filter(|answer| matches!(answer, Outcome::Stored { seq: 1, .. })).count();
    let resent = answers.iter().filter(|answer| matches!(answer, Outcome::Duplicate { seq: 1, .. })).count();
    assert_eq!((stored, resent), (1, 49), "{answers:?}");
    assert_eq!(all(&nodes[0]).await, [(1, "hi".to_owned())]);
}

#[actix_rt::test]
async fn retried_write_is_recognized() {
    let mongo = Mongo::start().await;
    let history = MongoHistory::new(&database(&mongo).await);
    history.prepare().await.unwrap();
    let new = |text: &str, seq| {
        NewMessage::of(&draft("alice", text, None), &room(), RoomHead { seq, timestamp: Timestamp(1) })
    };
    let batch = [new("a", 1), new("b", 2), new("c", 3)];
    assert_eq!(history.insert(&batch[..2]).await, Ok(2));
    assert_eq!(history.insert(&batch).await, Ok(2), "the two stored documents are its own");
    assert_eq!(history.insert(&batch[2..]).await, Ok(1));
    assert_eq!(history.insert(&batch).await, Ok(3));
    assert_eq!(history.insert(&[new("x", 2), new("y", 4)]).await, Ok(0), "stored by another writer");
    assert_eq!(history.insert(&[new("x", 4), new("y", 3), new("z", 5)]).await, Ok(1));
    assert_eq!(all(&history).await.len(), 4, "an insert stops at the first refused document");
}

/// Reads only produce the plan: MongoDB itself refuses the second message, in any case of the author's name.
#[actix_rt::test]
async fn mongodb_refuses_a_second_message_with_a_client_id() {
    let mongo = Mongo::start().await;
    let history = MongoHistory::new(&database(&mongo).await);
    history.prepare().await.unwrap();
    let new = |author: &str, client_id, seq| {
        NewMessage::of(&draft(author, "hi", client_id), &room(), RoomHead { seq, timestamp: Timestamp(1) })
    };
    assert_eq!(history.insert(&[new("alice", Some("c"), 1)]).await, Ok(1));
    assert_eq!(history.insert(&[new("Alice", Some("c"), 2)]).await, Ok(0));
    let others =
        [new("bob", Some("c"), 2), new("alice", Some("d"), 3), new("alice", None, 4), new("alice", None, 5)];
    assert_eq!(history.insert(&others).await, Ok(4));
}

#[actix_rt::test]
async fn acknowledged_messages_survive_a_crash() {
    let mut mongo = Mongo::start().await;
    let history = MongoHistory::new(&database(&mongo).await);
    history.prepare().await.unwrap();
    let writer = {
        let history = history.clone();
        actix_rt::spawn(async move {
            let mut acknowledged = vec![];
            for n in 0.. {
                let texts = [format!("{n} a"), format!("{n} b"), format!("{n} c")];
                let drafts = texts.iter().map(|text| draft("alice", text, Some(text))).collect();
                match append_at_head(&history, drafts).await {
                    Ok(appended) => {
                        for (text, outcome) in texts.into_iter().zip(&appended.outcomes) {
                            acknowledged.push((conformance::seq(outcome), text));
                        }
                    }
                    Err(Error::Store(_)) => break,
                    Err(error) => panic!("{error:?}"),
                }
            }
            acknowledged
        })
    };
    tokio::time::sleep(Duration::from_millis(700)).await;
    mongo.kill();
    let acknowledged = writer.await.unwrap();
    assert!(acknowledged.len() > 30, "only {} were written before the crash", acknowledged.len());
    mongo.restart().await;
    retry_until_ok(async || history.head(&room()).await).await;
    let stored = all(&history).await;
    assert!(stored.iter().map(|(seq, _)| *seq).eq(1..=stored.len() as u64), "no gaps");
    assert_eq!(
        stored[..acknowledged.len()],
        acknowledged,
        "all acknowledged messages, at their acknowledged numbers"
    );
    assert!(stored.len() <= acknowledged.len() + 3, "only one batch was not acknowledged");
    // The client resends the batch that was not answered. It is stored once, whether or not the first attempt was stored.
    let n = acknowledged.len() / 3;
    let resent = format!("{n} a");
    append_at_head(&history, vec![draft("alice", &resent, Some(&resent))]).await.unwrap();
    let now = all(&history).await;
    assert_eq!(now.iter().filter(|(_, text)| *text == resent).count(), 1);
}

#[actix_rt::test]
async fn frozen_or_dead_mongodb_fails_within_the_deadline() {
    let mut mongo = Mongo::start().await;
    let store = MongoStore::new(&database(&mongo).await);
    store.prepare().await.unwrap();
    assert!(store.is_ready().await);
    let history = store.history();
    let commits = Arc::new(AtomicU32::new(0));
    let call_all = async || {
        let (started, commits) = (Instant::now(), commits.clone());
        let committed = Box::new(move |_: &Appended| {
            commits.fetch_add(1, Ordering::SeqCst);
        });
        let (room, drafts) = (room(), [draft("alice", "hi", None)]);
        let (appended, head, page, since, ready) = tokio::join!(
            history.append(&room, 0, drafts.into(), committed),
            history.head(&room),
            history.page(&room, None, None, 10),
            history.since(&room, 0, 10),
            store.is_ready(),
        );
        let took = started.elapsed();
        assert!(took < STORE_DEADLINE, "{took:?}");
        for error in [appended.unwrap_err(), head.unwrap_err(), page.unwrap_err(), since.unwrap_err()] {
            assert!(matches!(error, Error::Store(_)), "{error:?}");
        }
        assert!(!ready);
    };
    mongo.pause();
    call_all().await;
    mongo.resume();
    retry_until_ok(async || history.head(&room()).await).await;
    mongo.kill();
    call_all().await;
    assert_eq!(commits.load(Ordering::SeqCst), 0, "the callback does not run without an outcome");
}

#[actix_rt::test]
async fn damaged_document_is_an_error_and_unknown_field_is_ignored() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let history = MongoHistory::new(&database);
    history.prepare().await.unwrap();
    let messages = database.collection::<Document>("messages");
    let good = |seq: i64| {
        doc! { "room": "tea", "seq": seq, "id": "i", "author": "Alice", "authorKey": "alice", "text": "hi",
        "timestamp": DateTime::from_millis(7), "mood": { "$where": ["sunny"] } }
    };
    messages.insert_one(good(1)).await.unwrap();
    assert_eq!(history.head(&room()).await, Ok(RoomHead { seq: 1, timestamp: Timestamp(7) }));
    assert_eq!(all(&history).await, [(1, "hi".to_owned())]);
    for (field, value) in [
        ("text", doc! { "value": 7 }),
        ("author", doc! { "value": "not a name" }),
        ("timestamp", doc! { "value": "today" }),
        ("timestamp", doc! { "value": DateTime::from_millis(-1) }),
        ("id", doc! { "value": doc! { "$gt": "" } }),
    ] {
        let mut bad = good(2);
        bad.insert(field, value.get("value").unwrap());
        messages.insert_one(bad).await.unwrap();
        let read = history.page(&room(), None, None, 10).await;
        assert!(matches!(&read, Err(Error::Store(why)) if why.contains("damaged")), "{field}: {read:?}");
        let read = history.since(&room(), 1, 10).await;
        assert!(matches!(&read, Err(Error::Store(why)) if why.contains("damaged")), "{field}: {read:?}");
        messages.delete_one(doc! { "seq": 2 }).await.unwrap();
    }
    messages.insert_one(doc! { "room": "tea", "seq": "three" }).await.unwrap();
    let head = history.head(&room()).await;
    assert!(matches!(&head, Err(Error::Store(why)) if why.contains("damaged")), "{head:?}");
    let appended = append(&history, 1, vec![draft("alice", "hi", None)]).await;
    assert!(matches!(&appended, Err(Error::Store(_))), "{appended:?}");
}

#[actix_rt::test]
async fn indexes_are_created_once_and_refused_if_the_data_violates_them() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    let database = client.database("twice");
    for _ in 0..2 {
        MongoStore::new(&database).prepare().await.unwrap();
    }
    let mut names = database.collection::<Document>("messages").list_index_names().await.unwrap();
    names.sort();
    assert_eq!(names, ["_id_", "room_author_client", "room_seq"]);

    let database = client.database("forked");
    let messages = database.collection::<Document>("messages");
    for text in ["one", "the other"] {
        messages.insert_one(doc! { "room": "tea", "seq": 1_i64, "text": text }).await.unwrap();
    }
    let store = MongoStore::new(&database);
    let refused = store.prepare().await.unwrap_err();
    assert!(refused.to_string().contains("messages holds two documents where one must be"), "{refused}");
    assert!(!store.is_ready().await);
    let unfenced = append(&MongoHistory::new(&database), 1, vec![draft("alice", "hi", None)]).await;
    assert!(
        matches!(unfenced, Err(Error::Store(_))),
        "nothing is written without the unique indexes: {unfenced:?}"
    );

    let database = client.database("other");
    let index = doc! { "key": { "room": 1, "seq": 1 }, "name": "room_seq" };
    database.run_command(doc! { "createIndexes": "messages", "indexes": [index] }).await.unwrap();
    let refused = MongoStore::new(&database).prepare().await.unwrap_err();
    assert!(refused.to_string().contains("has another index"), "{refused}");
}

/// Indexes may be dropped while the process runs: no number is assigned twice, no resend is stored twice, and the indexes are created
/// again.
#[actix_rt::test]
async fn numbering_survives_dropped_indexes() {
    let mongo = Mongo::start().await;
    let client = client(&mongo).await;
    for (number, lost) in
        [&["room_seq"][..], &["room_author_client"], &["room_seq", "room_author_client"], &[]]
            .into_iter()
            .enumerate()
    {
        let database = client.database(&format!("lost{number}"));
        let nodes = [MongoHistory::new(&database), MongoHistory::new(&database)];
        for node in &nodes {
            node.prepare().await.unwrap();
        }
        append_at_head(&nodes[0], vec![draft("alice", "first", None)]).await.unwrap();
        let messages = database.collection::<Document>("messages");
        for index in lost {
            messages.drop_index(*index).await.unwrap();
        }
        if lost.is_empty() {
            messages.drop().await.unwrap();
        }
        // Both nodes store the same resends at the same time.
        let sends = (0..40).map(|n| {
            let text = format!("text {}", n / 2);
            append_at_head(&nodes[n % 2], vec![draft("alice", &text, Some(&text))])
        });
        for answer in join_all(sends).await {
            answer.unwrap();
        }
        let stored = all(&nodes[0]).await;
        let first = usize::from(!lost.is_empty());
        assert_eq!(stored.len(), 20 + first, "{lost:?}: {stored:?}");
        assert!(stored.iter().map(|(seq, _)| *seq).eq(1..=stored.len() as u64), "{lost:?}: {stored:?}");
        nodes[1].prepared.invalidate().await;
        nodes[1].check().await.unwrap();
        let mut names = messages.list_index_names().await.unwrap();
        names.sort();
        assert_eq!(names, ["_id_", "room_author_client", "room_seq"], "{lost:?}");
    }
}

#[actix_rt::test]
async fn refused_writes_are_reported_and_not_committed() {
    let mongo = Mongo::start().await;
    let store = MongoStore::new(&database(&mongo).await);
    store.prepare().await.unwrap();
    assert_eq!(store.not_ready_reason().await, None);
    let history = store.history();
    for fault in testkit::MongoFault::ALL {
        mongo.fail_writes(fault).await;
        let until = Instant::now() + Duration::from_secs(30);
        while !store.not_ready_reason().await.is_some_and(|words| words.contains(fault.word())) {
            assert!(Instant::now() < until, "{fault:?}: {:?}", store.not_ready_reason().await);
        }
        let head = history.head(&room()).await.unwrap();
        let must_not_run = Box::new(move |_: &Appended| panic!("{fault:?}: the callback ran"));
        let refused =
            history.append(&room(), head.seq, [draft("alice", "hi", None)].into(), must_not_run).await;
        let is_refusal = matches!(fault, testkit::MongoFault::Full | testkit::MongoFault::Forbidden);
        match refused {
            Err(Error::StoreRefused(_)) => assert!(is_refusal, "{fault:?}"),
            Err(Error::Store(_)) => assert!(!is_refusal, "{fault:?}"),
            refused => panic!("{fault:?}: {refused:?}"),
        }
        mongo.restore_writes().await;
        retry_until_ok(async || store.not_ready_reason().await.map_or(Ok(()), Err)).await;
    }
}

/// A validator makes one collection refuse its writes. Reads and writes to other collections succeed.
#[actix_rt::test]
async fn a_collection_that_refuses_writes_is_named() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let store = MongoStore::new(&database);
    store.prepare().await.unwrap();
    let number = std::cell::Cell::new(0);
    let write = async |collection: &str| -> Result<(), Error> {
        number.set(number.get() + 1);
        match collection {
            "messages" => {
                let (history, drafts) = (store.history(), [draft("alice", "hi", None)]);
                let head = history.head(&room()).await?.seq;
                history.append(&room(), head, drafts.into(), Box::new(|_| ())).await.map(drop)
            }
            "rooms" => {
                let name = format!("tea-{}", number.get()).parse().unwrap();
                let owner = "alice".parse().unwrap();
                let new =
                    crate::directory::NewRoom { name, owner, settings: proto::event::Settings::default() };
                store.directory().create(new, 100, Box::new(drop)).await.map(drop)
            }
            _ => store.lineage().end(&number.get().to_string()).await.map(drop),
        }
    };
    let validate = async |collection: &str, validator| {
        database.run_command(doc! { "collMod": collection, "validator": validator }).await.unwrap();
    };
    for collection in ["messages", "rooms", "lineage"] {
        write(collection).await.unwrap();
        assert_eq!(store.not_ready_reason().await, None);
        validate(collection, doc! { "absent": { "$exists": true } }).await;
        let refused = write(collection).await.unwrap_err();
        assert!(matches!(refused, Error::StoreRefused(_)), "{collection}: {refused:?}");
        assert_eq!(refused.public(), "the store refuses the operation, try again");
        let reason = store.not_ready_reason().await.unwrap();
        for word in ["validator", collection, "121 DocumentValidationFailure"] {
            assert!(reason.contains(word), "{collection}: {reason}");
        }
        validate(collection, doc! {}).await;
        if collection != "messages" {
            // Otherwise a trial clears the record.
            write(collection).await.unwrap();
        }
        retry_until_ok(async || store.not_ready_reason().await.map_or(Ok(()), Err)).await;
    }
}

/// Each kind of write, with the command of MongoDB and whether the node is not ready while it is refused. Otherwise it is degraded.
const WRITES: [(&str, &str, bool); 9] = [
    ("messages", "insert", true),
    ("messages", "delete", false),
    ("rooms", "findAndModify", true),
    ("members", "update", true),
    ("changes", "update", false),
    ("changes", "delete", false),
    ("untold", "update", false),
    ("untold", "delete", false),
    ("lineage", "findAndModify", true),
];

/// Makes a write of this kind. `number` differs in each call.
async fn write(store: &MongoStore, (collection, command): (&str, &str), number: u64) -> Result<(), Error> {
    let alice = || "alice".parse().unwrap();
    let private = |private| SettingsPatch { private: Some(private) };
    let new = |name: &str| crate::directory::NewRoom {
        name: name.parse().unwrap(),
        owner: alice(),
        settings: Settings { private: false, ephemeral: true },
    };
    match (collection, command) {
        ("messages", "insert") => {
            let (history, drafts) = (store.history(), [draft("alice", "hi", None)]);
            let head = history.head(&room()).await?.seq;
            history.append(&room(), head, drafts.into(), Box::new(|_| ())).await.map(drop)
        }
        ("messages", _) => store.history().trim(&room(), 1, Timestamp(0)).await,
        ("rooms", _) => {
            store
                .directory()
                .change_settings(&room(), &alice(), &private(number.is_multiple_of(2)), Box::new(drop))
                .await
        }
        ("members", _) => {
            // Joins are for public rooms.
            store.directory().change_settings(&room(), &alice(), &private(false), Box::new(drop)).await?;
            let user = format!("user{number}").parse().unwrap();
            store.directory().add(&room(), &user, 1_000, Box::new(drop)).await.map(drop)
        }
        ("changes", "update") => {
            // A copy of the latest changes begins after 32 of them.
            for n in 0..40_u64 {
                let patch = private(n.is_multiple_of(2));
                store.directory().change_settings(&room(), &alice(), &patch, Box::new(drop)).await?;
            }
            Ok(())
        }
        ("changes", _) => {
            let name = format!("ended{number}");
            let ended = name.parse().unwrap();
            store.directory().create(new(&name), 1_000, Box::new(drop)).await?;
            store.directory().archive(&ended, &alice(), Box::new(drop)).await?;
            store.directory().create(new(&name), 1_000, Box::new(drop)).await.map(drop)
        }
        ("untold", "update") => store.unpublished().note(&room(), 1, number).await,
        ("untold", _) => store.unpublished().resolve(&room(), number).await,
        _ => store.lineage().end(&number.to_string()).await.map(drop),
    }
}

/// Refused writes without which the chat works make a node degraded, and others make it not ready. Both name the collection and the cause,
/// and end without a further write. A full disk and a missing right are refusals, and a validator is one.
#[actix_rt::test]
async fn refused_writes_make_a_node_degraded_or_not_ready() {
    let mongo = Mongo::start().await;
    let (database, admin) = (database(&mongo).await, client(&mongo).await.database("admin"));
    let store = MongoStore::without_reuse_delay(&database);
    store.prepare().await.unwrap();
    let new = crate::directory::NewRoom {
        name: room(),
        owner: "alice".parse().unwrap(),
        settings: Settings { private: false, ephemeral: true },
    };
    store.directory().create(new, 100, Box::new(drop)).await.unwrap();
    let mut number = 0;
    for (row, (collection, command, is_required)) in WRITES.into_iter().enumerate() {
        let code = [14_031, 13][row % 2];
        let what = format!("{command} {collection} {code}");
        // A trim deletes nothing, and a note is not deleted, unless there are several messages and a note.
        for kind in [("messages", "insert"), ("messages", "insert"), ("untold", "update")] {
            write(&store, kind, number).await.unwrap();
        }
        let data = doc! {
            // A trial updates by another command.
            "failCommands": if command == "findAndModify" { vec![command, "update"] } else { vec![command] },
            "errorCode": code,
            "namespace": format!("{}.{collection}", database.name()),
        };
        let fail = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
        admin.run_command(fail).await.unwrap();
        retry_until_ok(async || {
            number += 1;
            let written = write(&store, (collection, command), number).await;
            let (reason, degradation) = (store.not_ready_reason().await, store.degradation().await);
            let (Some(text), None) =
                (if is_required { (reason, degradation) } else { (degradation, reason) })
            else {
                return Err(format!("{what}: {written:?}"));
            };
            let is_named = text.contains(collection) && text.contains(&code.to_string());
            if is_named { Ok(()) } else { Err(text) }
        })
        .await;
        let is_noted = (collection, command) == ("untold", "update");
        assert_eq!(store.unpublished_not_ready_reason().is_some(), is_noted, "{what}");
        admin.run_command(doc! { "configureFailPoint": "failCommand", "mode": "off" }).await.unwrap();
        retry_until_ok(async || match (store.not_ready_reason().await, store.degradation().await) {
            (None, None) => Ok(()),
            refused => Err(format!("{what}: {refused:?}")),
        })
        .await;
        assert_eq!(store.unpublished_not_ready_reason(), None, "{what}");
    }
}

/// A unique index of another program is neither a write of another node nor a name that is taken.
#[actix_rt::test]
async fn a_unique_index_of_another_program_is_named() {
    let mongo = Mongo::start().await;
    let number = std::cell::Cell::new(0);
    let cases = [
        ("messages", "insert into messages", doc! { "email": 1 }),
        ("messages", "insert into messages", doc! { "text": 1 }),
        ("messages", "insert into messages", doc! { "room": 1, "authorKey": 1 }),
        ("rooms", "update of rooms", doc! { "email": 1 }),
        ("rooms", "update of rooms", doc! { "owner": 1 }),
        ("members", "update of rooms", doc! { "count": 1 }),
    ];
    for (at, (kind, place, keys)) in cases.into_iter().enumerate() {
        let database = client(&mongo).await.database(&format!("foreign{at}"));
        let store_of = remote::mongo::Store::from(&database);
        let store = MongoStore::new(&store_of);
        let create = async |name: String, owner: &str| {
            let (name, owner) = (name.parse().unwrap(), owner.parse().unwrap());
            let new = crate::directory::NewRoom { name, owner, settings: proto::event::Settings::default() };
            store.directory().create(new, 100, Box::new(drop)).await.map(drop)
        };
        let write = async || -> Result<(), Error> {
            number.set(number.get() + 1);
            match kind {
                "messages" => {
                    let history = MongoHistory::new(&store_of);
                    append_at_head(&history, vec![draft("alice", "hi", None)]).await.map(drop)
                }
                "rooms" => create(format!("tea-{}", number.get()), "alice").await,
                _ => {
                    let bob = "bob".parse().unwrap();
                    store.directory().add(&room(), &bob, 100, Box::new(drop)).await.map(drop)
                }
            }
        };
        store.prepare().await.unwrap();
        let collection = if kind == "messages" { "messages" } else { "rooms" };
        if kind == "members" {
            create(room().to_string(), "alice").await.unwrap();
            create("bobs".to_owned(), "bob").await.unwrap();
            let (bobs, carol) = ("bobs".parse().unwrap(), "carol".parse().unwrap());
            store.directory().add(&bobs, &carol, 100, Box::new(drop)).await.unwrap();
        } else {
            write().await.unwrap();
        }
        // An accepted write to the rooms would end the report of the refused one.
        let rooms = database.collection::<Document>("rooms");
        retry_until_ok(async || {
            let pending = rooms.count_documents(doc! { "pending": { "$exists": true } }).await.unwrap();
            if pending == 0 { Ok(()) } else { Err(format!("{pending} rooms")) }
        })
        .await;
        let index = doc! { "name": "their_index", "key": keys, "unique": true };
        database.run_command(doc! { "createIndexes": collection, "indexes": [index] }).await.unwrap();
        let refused = write().await.unwrap_err();
        assert_eq!(refused.code(), proto::event::Code::Unavailable, "{kind}");
        let Error::StoreRefused(text) = &refused else { panic!("{kind}: {refused:?}") };
        let is_named = text.contains(&format!(".{collection} index: their_index"));
        assert!(is_named && !text.contains("dup key"), "{kind}: {text}");
        let reason = store.not_ready_reason().await.expect("a write was refused");
        for word in [
            "a unique index of another program",
            &format!("({place}: 11000 DuplicateKey, index their_index)"),
        ] {
            assert!(reason.contains(word), "{kind}: {reason}");
        }
        database.run_command(doc! { "dropIndexes": collection, "index": "their_index" }).await.unwrap();
        write().await.unwrap();
        assert_eq!(store.not_ready_reason().await, None, "{kind}");
    }
}

#[actix_rt::test]
async fn oversized_message_is_an_error_and_takes_no_number() {
    let mongo = Mongo::start().await;
    let history = MongoHistory::new(&database(&mongo).await);
    let huge = Text::parse("x".repeat(16 * 1024 * 1024), usize::MAX).unwrap();
    let drafts = vec![draft("alice", "a", None), Draft { text: huge, ..draft("alice", "b", None) }];
    let appended = append(&history, 0, drafts).await;
    assert!(appended.as_ref().is_err_and(Error::is_of_store), "{appended:?}");
    append_at_head(&history, vec![draft("alice", "c", None)]).await.unwrap();
    let stored = all(&history).await;
    assert!(stored.iter().map(|(seq, _)| *seq).eq(1..=stored.len() as u64), "{stored:?}");
}

/// MongoDB's plan of a query.
async fn plan_of(database: &Database, filter: Document, sort: Document) -> String {
    let find = doc! { "find": "messages", "filter": filter, "sort": sort };
    let explained =
        database.run_command(doc! { "explain": find, "verbosity": "queryPlanner" }).await.unwrap();
    explained.get_document("queryPlanner").unwrap().get_document("winningPlan").unwrap().to_string()
}

#[actix_rt::test]
async fn every_query_uses_an_index() {
    let mongo = Mongo::start().await;
    let database = database(&mongo).await;
    let history = MongoHistory::new(&database);
    append(&history, 0, vec![draft("alice", "hi", Some("c"))]).await.unwrap();
    let ids = BTreeMap::from([("alice".to_owned(), vec!["c", "d"]), ("bob".to_owned(), vec!["e"])]);
    let resent = plan_of(&database, resend_filter(&room(), ids), doc! {}).await;
    assert!(resent.contains("room_author_client") && !resent.contains("COLLSCAN"), "{resent}");
    let head = plan_of(&database, doc! { "room": "tea" }, doc! { "seq": -1 }).await;
    assert!(head.contains("room_seq") && !head.contains("\"SORT\""), "{head}");
}
