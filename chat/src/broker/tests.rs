//! The queue and the log of one process. Delivery to sockets is tested through clients.

use std::sync::Arc;

use proto::{
    RoomName, Timestamp, Username,
    event::{Body, Message, Settings},
};
use socketio::SocketId;
use tokio::sync::mpsc;

use super::{Broker, Entry, RoomEvent, conformance};
use crate::{
    SqliteStore, Text,
    directory::{Committed, Directory, NewRoom, shorthand::Shorthand},
    history::{Appended, Draft, History, Outcome},
};

fn message(offset: u64) -> RoomEvent {
    let message = Message {
        id: offset.to_string(),
        room: RoomName::lobby(),
        seq: offset,
        from: "alice".parse().unwrap(),
        data: Body { text: "hi".into() },
        timestamp: Timestamp(0),
    };
    RoomEvent::message(message, None, Some(offset))
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
            Some(Entry::Event(RoomEvent { offset, .. })) => received.push(offset),
            other => panic!("{other:?}"),
        }
    }
    writer.join().unwrap();
    assert!(received.into_iter().eq((1..=3000).map(Some)));
}

/// The broker of one process, with the store that is its log.
struct OneProcess {
    broker: Broker,
    history: Arc<dyn History>,
    directory: Arc<dyn Directory>,
    entries: mpsc::UnboundedReceiver<Entry>,
}

impl OneProcess {
    fn publish(&self) -> Committed {
        let broker = self.broker.clone();
        Box::new(move |change| broker.publish_change(change))
    }
}

impl conformance::Fixture for OneProcess {
    fn broker(&self) -> &Broker {
        &self.broker
    }

    async fn post(&self, room: &RoomName, from: &Username, text: &str, socket: Option<&str>) {
        let head = self.history.head(room).await.unwrap().seq;
        let draft = Draft {
            id: format!("id of {text}"),
            author: from.clone(),
            text: Text::parse(text.to_owned(), 100).unwrap(),
            client_id: None,
            timestamp: Timestamp(1),
            origin: socket.map(str::to_owned),
        };
        let (broker, origin) = (self.broker.clone(), socket.map(SocketId::from_stored));
        let message = Message {
            id: draft.id.clone(),
            room: room.clone(),
            seq: head + 1,
            from: from.clone(),
            data: Body { text: text.to_owned() },
            timestamp: Timestamp(1),
        };
        let publish = move |appended: &Appended| {
            let Outcome::Stored { offset, .. } = appended.outcomes[0] else { panic!("not stored") };
            broker.append(RoomEvent::message(message, origin, offset));
        };
        self.history.append(room, head, [draft].into(), Box::new(publish)).await.unwrap();
        self.broker.publish(room, vec![]).await.unwrap();
    }

    async fn set_member(&self, room: &RoomName, user: &Username, is_member: bool) -> u64 {
        let (sender, rev) = std::sync::mpsc::channel();
        let publish = self.publish();
        let committed: Committed = Box::new(move |change| {
            sender.send(change.rev).unwrap();
            publish(change);
        });
        match is_member {
            true => self.directory.add(room, user, 100, committed).await.unwrap(),
            false => self.directory.leave(room, user, committed).await.unwrap(),
        };
        rev.recv().unwrap()
    }

    async fn next(&mut self) -> Entry {
        self.entries.recv().await.unwrap()
    }
}

#[actix_rt::test]
async fn the_log_of_one_process_passes_the_conformance_suite() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap();
    let (broker, queue) = Broker::open(store.journal()).await.unwrap();
    let entries = conformance::forward(&broker, queue);
    let log = OneProcess { broker, history: store.history(), directory: store.directory(), entries };
    let (name, owner) = ("tea".parse().unwrap(), "alice".parse().unwrap());
    let tea = NewRoom { name, owner, settings: Settings::default() };
    log.directory.create(tea, 100, log.publish()).await.unwrap();
    log.broker.flush().await;
    conformance::run(log).await;
}
