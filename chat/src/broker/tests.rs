//! Order and position of the broker, with a real [`Io`] that has no workers. Delivery to sockets is tested through clients.

use proto::{
    RoomName, Timestamp,
    event::{Body, Message},
};
use socketio::Io;

use super::{Broker, Entry, fanout_actor};
use crate::SqliteStore;

fn message(offset: u64) -> Entry {
    let message = Message {
        id: offset.to_string(),
        room: RoomName::lobby(),
        seq: offset,
        from: "alice".parse().unwrap(),
        data: Body { text: "hi".into() },
        timestamp: Timestamp(0),
    };
    Entry::Message { offset: Some(offset), message, origin: None }
}

fn position(broker: &Broker) -> String {
    broker.format_offset(broker.reached())
}

#[actix_rt::test]
async fn a_flush_waits_for_all_entries_before_it_and_the_position_advances() {
    let dir = tempfile::tempdir().unwrap();
    let history = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap().journal();
    let (broker, entries) = Broker::open(history.clone()).await.unwrap();
    let epoch = history.epoch().await.unwrap();
    assert_eq!(position(&broker), format!("{epoch}-0"));
    (1..=1000).for_each(|offset| broker.append(message(offset)));
    assert_eq!(position(&broker), format!("{epoch}-0"), "nothing was delivered yet");
    fanout_actor::start(&broker, entries, Io::new());
    broker.flush().await;
    assert_eq!(position(&broker), format!("{epoch}-1000"));
}

#[actix_rt::test]
async fn a_full_queue_blocks_the_store_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let history = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap().journal();
    let (broker, mut entries) = Broker::open(history.clone()).await.unwrap();
    let writer = {
        let broker = broker.clone();
        std::thread::spawn(move || (1..=3000).for_each(|offset| broker.append(message(offset))))
    };
    let mut received = Vec::new();
    while received.len() < 3000 {
        match entries.recv().await {
            Some(Entry::Message { offset, .. }) => received.push(offset),
            other => panic!("{other:?}"),
        }
    }
    writer.join().unwrap();
    assert!(received.into_iter().eq((1..=3000).map(Some)));
}

#[actix_rt::test]
async fn a_restart_continues_the_position_in_the_same_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.sqlite3");
    let samples =
        vec![crate::Sample { room: RoomName::lobby(), author: "alice".parse().unwrap(), text: "hi".into() }];
    let before = {
        let store = SqliteStore::open(&path).unwrap();
        crate::seed(&store, samples).await.unwrap();
        position(&Broker::open(store.journal()).await.unwrap().0)
    };
    let store = SqliteStore::open(&path).unwrap();
    let (broker, _) = Broker::open(store.journal()).await.unwrap();
    assert_eq!(position(&broker), before);
    assert!(before.ends_with("-1"), "{before}");
}
