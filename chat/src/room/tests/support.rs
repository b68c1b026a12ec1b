//! A stage for room tests: a real store in a directory of its own that can be told to fail, the keeper of rooms, and the log's
//! entries as they come.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix::{Addr, Handler};
use proto::{RoomName, Username};
use socketio::{BackpressureToken, SocketId};
use tokio::sync::{mpsc, watch};

use super::faulty::{Fault, FaultyDirectory, FaultyHistory};
use crate::{
    Error, SqliteStore, Text,
    ask::{Ask, Question, ask, start},
    broker::{Broker, Entry},
    directory::{Additions, NewRoom},
    room::{Parts, Room, post::Post},
    rooms::{self, Rooms},
};

/// A room whose clients are behind, and the marks of its batches.
type Behind = Arc<Mutex<Option<(RoomName, Vec<BackpressureToken>)>>>;

pub struct Stage {
    pub parts: Parts,
    pub rooms: Addr<Rooms>,
    pub entries: mpsc::UnboundedReceiver<Entry>,
    fault: watch::Sender<Fault>,
    /// The clients of this room are behind: the marks of its batches are kept.
    behind: Behind,
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

pub fn said(entry: &Entry) -> Option<(Option<&SocketId>, &str)> {
    match entry {
        Entry::Message { origin, message, .. } => Some((origin.as_ref(), &message.data.text)),
        _ => None,
    }
}

impl Stage {
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
        let (tell, entries) = mpsc::unbounded_channel();
        let behind = Behind::default();
        let (marks, keeps) = (broker.clone(), behind.clone());
        actix_rt::spawn(async move {
            while let Some(entry) = queue.recv().await {
                if let Some((room, kept)) = &mut *keeps.lock().unwrap() {
                    kept.extend(marks.mark(room).filter(|_| said(&entry).is_some()));
                }
                match entry {
                    Entry::Flushed(done) => drop(done),
                    Entry::Changed { .. } => {}
                    entry => drop(tell.send(entry)),
                }
            }
        });
        let parts = Parts {
            history,
            directory,
            broker,
            rooms_per_user: 100,
            additions: Additions { per_user: 100, per_adder: 1000 },
        };
        let rooms = rooms::start(parts.clone());
        Self { parts, rooms, entries, fault, behind, _dir: dir }
    }

    /// The clients of a room fall behind, or of none.
    pub fn fall_behind(&self, room: Option<&str>) {
        *self.behind.lock().unwrap() = room.map(|room| (self::room(room), Vec::new()));
    }

    pub fn heal(&self) {
        self.set(Fault::None);
    }

    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    pub async fn create(&self, room: &str, owner: &str, private: bool) {
        self.make(NewRoom { name: self::room(room), owner: name(owner), private, ephemeral: false }).await;
    }

    pub async fn create_ephemeral(&self, room: &str, owner: &str) {
        self.make(NewRoom { name: self::room(room), owner: name(owner), private: false, ephemeral: true })
            .await;
    }

    async fn make(&self, new: NewRoom) {
        self.parts.directory.create(new, 100, Box::new(|| ())).await.unwrap();
    }

    pub async fn room(&self, name: &str) -> Addr<Room> {
        rooms::find(&self.rooms, &room(name)).await.unwrap()
    }

    /// A room that the keeper does not know of, as if it ran on another node.
    pub async fn another(&self, name: &str) -> Addr<Room> {
        let entry = self.parts.directory.find(&room(name)).await.unwrap().unwrap();
        let head = self.parts.history.head(&room(name)).await.unwrap();
        let (parts, idle) = (self.parts.clone(), self.rooms.clone().recipient());
        start(|_| Room::new(entry, head, parts, idle))
    }

    pub async fn ask<Q>(&self, name: &str, question: Q) -> Result<Q::Answer, Error>
    where
        Q: Question,
        Room: Handler<Ask<Q>>,
    {
        let found = rooms::find(&self.rooms, &room(name)).await?;
        ask(&found, question).ok().expect("the room takes the question").answer().await
    }

    /// What the log was told so far.
    pub async fn told(&mut self) -> Vec<Entry> {
        self.parts.broker.flush().await;
        std::iter::from_fn(|| self.entries.try_recv().ok()).collect()
    }

    /// The messages that the log was told so far.
    pub async fn said(&mut self) -> Vec<(u64, String)> {
        let said = |entry| match entry {
            Entry::Message { message, .. } => Some((message.seq, message.data.text)),
            _ => None,
        };
        self.told().await.into_iter().filter_map(said).collect()
    }

    /// All that the log was told so far, in words.
    pub async fn sketch(&mut self) -> Vec<String> {
        let words = |entry| match entry {
            Entry::Message { message, .. } => format!("{} said {}", message.from, message.data.text),
            Entry::Joined { room, user } => format!("{user} joined {room}"),
            Entry::Left { room, user } => format!("{user} left {room}"),
            Entry::Archived { room, members } => {
                let members: Vec<_> = members.iter().map(Username::as_str).collect();
                format!("{room} archived for {}", members.join(", "))
            }
            other => panic!("{other:?}"),
        };
        self.told().await.into_iter().map(words).collect()
    }
}
