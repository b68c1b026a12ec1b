//! The fixture of the room tests: a real store in a temporary directory with fault injection, the room registry, and the published
//! broker entries.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix::{Addr, Handler};
use proto::{RoomName, Username, event::Settings};
use socketio::{BackpressureToken, SocketId};
use tokio::sync::{mpsc, watch};

use super::faulty::{Fault, FaultyDirectory, FaultyHistory};
use crate::{
    Error, SqliteStore, Text,
    ask::{Ask, Question, ask, start},
    broker::{Broker, Control, Entry, RoomEvent, RoomEventKind},
    directory::{ChangeKind, Limits, NewRoom},
    room::{Parts, Room, post::Post},
    rooms::{self, Rooms},
};

/// A room with lagging clients, and the backpressure tokens of its batches.
type Lagging = Arc<Mutex<Option<(RoomName, Vec<BackpressureToken>)>>>;

pub struct TestRooms {
    pub parts: Parts,
    pub rooms: Addr<Rooms>,
    pub entries: mpsc::UnboundedReceiver<Entry>,
    fault: watch::Sender<Fault>,
    /// The room whose clients lag: the backpressure tokens of its batches are held.
    lagging: Lagging,
    _dir: tempfile::TempDir,
}

pub fn name(name: &str) -> Username {
    name.parse().unwrap()
}

pub fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

pub fn post(author: &str, text: &str) -> Post {
    Post {
        author: name(author),
        text: Text::parse(text.to_owned(), 8192).unwrap(),
        client_id: None,
        origin: None,
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

pub fn with_id(author: &str, text: &str, id: &str) -> Post {
    Post { client_id: Some(id.to_owned().try_into().unwrap()), ..post(author, text) }
}

/// The origin and text of a message entry.
pub fn message_of(entry: &Entry) -> Option<(Option<&SocketId>, &str)> {
    match entry {
        Entry::Event(RoomEvent { kind: RoomEventKind::Message { origin, message }, .. }) => {
            Some((origin.as_ref(), &message.data.text))
        }
        _ => None,
    }
}

impl TestRooms {
    pub async fn new() -> Self {
        Self::with(Fault::None).await
    }

    pub async fn with(fault: Fault) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap();
        let (fault, faults) = watch::channel(fault);
        let history = Arc::new(FaultyHistory { history: store.history(), fault: faults.clone() });
        let directory = Arc::new(FaultyDirectory { directory: store.directory(), fault: faults });
        let (broker, mut queue) = Broker::open(store.journal()).await.unwrap();
        let (sender, entries) = mpsc::unbounded_channel();
        let lagging = Lagging::default();
        let (source, held) = (broker.clone(), lagging.clone());
        actix_rt::spawn(async move {
            while let Some(entry) = queue.recv().await {
                if let Some((room, tokens)) = &mut *held.lock().unwrap() {
                    tokens.extend(source.backpressure_token(room).filter(|_| message_of(&entry).is_some()));
                }
                match entry {
                    Entry::Control(Control::Flushed(done)) => drop(done),
                    Entry::Event(RoomEvent { kind: RoomEventKind::Change(change), .. })
                        if change.what == ChangeKind::Other => {}
                    entry => drop(sender.send(entry)),
                }
            }
        });
        let parts = Parts {
            history,
            directory,
            broker,
            limits: Limits { rooms_per_user: 100, additions_per_user: 1000 },
        };
        let rooms = rooms::start(parts.clone());
        Self { parts, rooms, entries, fault, lagging, _dir: dir }
    }

    /// Makes the clients of `room` lag. `None`: no clients lag.
    pub fn set_lagging(&self, room: Option<&str>) {
        *self.lagging.lock().unwrap() = room.map(|room| (self::room(room), Vec::new()));
    }

    pub fn clear_fault(&self) {
        self.set_fault(Fault::None);
    }

    pub fn set_fault(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    pub async fn create(&self, room: &str, owner: &str, private: bool) {
        self.make(NewRoom {
            name: self::room(room),
            owner: name(owner),
            settings: Settings { private, ..Settings::default() },
        })
        .await;
    }

    pub async fn create_ephemeral(&self, room: &str, owner: &str) {
        self.make(NewRoom {
            name: self::room(room),
            owner: name(owner),
            settings: Settings { ephemeral: true, ..Settings::default() },
        })
        .await;
    }

    async fn make(&self, new: NewRoom) {
        self.parts.directory.create(new, 100, Box::new(drop)).await.unwrap();
    }

    pub async fn room(&self, name: &str) -> Addr<Room> {
        rooms::find(&self.rooms, &room(name)).await.unwrap()
    }

    /// Another actor of the room outside of the registry, as on another node.
    pub async fn second_actor(&self, name: &str) -> Addr<Room> {
        let entry = self.parts.directory.find(&room(name)).await.unwrap().unwrap();
        let head = self.parts.history.head(&room(name)).await.unwrap();
        let (parts, idle) = (self.parts.clone(), self.rooms.clone().recipient());
        start(|_| Room::new(entry, head, Instant::now(), parts, idle))
    }

    pub async fn ask<Q>(&self, name: &str, question: Q) -> Result<Q::Answer, Error>
    where
        Q: Question,
        Room: Handler<Ask<Q>>,
    {
        let found = rooms::find(&self.rooms, &room(name)).await?;
        ask(&found, question).ok().expect("the room accepts the question").answer().await
    }

    /// Removes the published entries and returns the number and text of their messages.
    pub async fn messages(&mut self) -> Vec<(u64, String)> {
        self.parts.broker.flush().await;
        let message = |entry| match entry {
            Entry::Event(RoomEvent { kind: RoomEventKind::Message { message, .. }, .. }) => {
                Some((message.seq, message.data.text))
            }
            _ => None,
        };
        std::iter::from_fn(|| self.entries.try_recv().ok()).filter_map(message).collect()
    }
}
