//! Tests of [`MongoHistory`] on a real MongoDB: the conformance suite, concurrent writers, outages.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use proto::{RoomName, Timestamp};
use remote::{Deployment, mongo::Store};
use testkit::Mongo;

use super::{MongoHistory, document::NewMessage};
use crate::{
    Error,
    config::STORE_DEADLINE,
    history::{Appended, Draft, History, Outcome, RoomHead, conformance},
    mongo_store::MongoStore,
    text::Text,
};

async fn store(mongo: &Mongo) -> Store {
    Store::new(&mongo.uri(), &Deployment::default()).await.unwrap()
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
    let (store, number) = (store(&mongo).await, AtomicU32::new(0));
    let fresh = || {
        let deployment = format!("suite{}", number.fetch_add(1, Ordering::Relaxed)).parse().unwrap();
        let store = Store { deployment, ..store.clone() };
        (Arc::new(MongoHistory::new(store)) as Arc<dyn History>, ())
    };
    conformance::run(fresh).await;
}

#[actix_rt::test]
async fn two_writers_produce_one_order_without_gaps() {
    let mongo = Mongo::start().await;
    let write = async |name: &'static str| {
        let history = MongoHistory::new(store(&mongo).await);
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
        let (history, mut read) = (MongoHistory::new(store(&mongo).await), 0);
        while read < 400 {
            let slice = history.since(&room(), 0, 500).await.unwrap();
            read = slice.messages.len() as u64;
            assert_eq!(slice.head, read, "the head does not exceed the messages");
        }
    };
    let (alice, bob, ()) = tokio::join!(write("alice"), write("bob"), read);
    let stored = all(&MongoHistory::new(store(&mongo).await)).await;
    assert!(stored.iter().map(|(seq, _)| *seq).eq(1..=400), "no gaps and no duplicates: {stored:?}");
    for (name, acknowledged) in [("alice", alice), ("bob", bob)] {
        let theirs: BTreeMap<u64, String> =
            stored.iter().filter(|(_, text)| text.starts_with(name)).cloned().collect();
        assert_eq!(theirs, acknowledged, "the acknowledged numbers are the stored ones");
        assert!(theirs.values().is_sorted(), "in the order of the sends");
    }
}

#[actix_rt::test]
async fn fifty_concurrent_resends_store_one_message() {
    let mongo = Mongo::start().await;
    let nodes = [MongoHistory::new(store(&mongo).await), MongoHistory::new(store(&mongo).await)];
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
    let history = MongoHistory::new(store(&mongo).await);
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
    let history = MongoHistory::new(store(&mongo).await);
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
async fn frozen_or_dead_mongodb_fails_within_the_deadline() {
    let mut mongo = Mongo::start().await;
    let store = MongoStore::new(store(&mongo).await);
    store.prepare().await.unwrap();
    let history = store.history();
    let commits = Arc::new(AtomicU32::new(0));
    let call_all = async || {
        let (started, commits) = (Instant::now(), commits.clone());
        let committed = Box::new(move |_: &Appended| {
            commits.fetch_add(1, Ordering::SeqCst);
        });
        let (room, drafts) = (room(), [draft("alice", "hi", None)]);
        let (appended, head, page, since) = tokio::join!(
            history.append(&room, 0, drafts.into(), committed),
            history.head(&room),
            history.page(&room, None, None, 10),
            history.since(&room, 0, 10),
        );
        let took = started.elapsed();
        assert!(took < STORE_DEADLINE, "{took:?}");
        for error in [appended.unwrap_err(), head.unwrap_err(), page.unwrap_err(), since.unwrap_err()] {
            assert!(matches!(error, Error::Store(_)), "{error:?}");
        }
    };
    mongo.pause();
    call_all().await;
    mongo.resume();
    retry_until_ok(async || history.head(&room()).await).await;
    mongo.kill();
    call_all().await;
    assert_eq!(commits.load(Ordering::SeqCst), 0, "the callback does not run without an outcome");
}
