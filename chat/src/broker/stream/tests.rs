//! Nodes that share a real Redis and one store of messages: whatever happens to Redis or to a node, each tells every message
//! once and in order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;

use proto::{RoomName, Timestamp, Username};
use remote::redis::{self, AsyncCommands};
use tempfile::TempDir;
use testkit::Redis as Server;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{News, Stream, follow};
use crate::{
    Error, SqliteStore, Text,
    broker::{Broker, Entry, ParsedOffset},
    changes::{Changed, Changes},
    history::{Draft, History, Journal, Outcome, StoredMessage},
    lineage::Lineage,
    redis::Redis,
    unpublished::{Noted, Unpublished},
};

mod changes;
mod halves;
mod restored;

/// How long what has to happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Cluster {
    server: Server,
    history: Arc<dyn History>,
    unpublished: Arc<Notes>,
    rooms: Arc<Rooms>,
    lineage: Arc<Histories>,
    _dir: TempDir,
}

/// Notes that all nodes of a test share.
#[derive(Default)]
struct Notes(Mutex<HashMap<RoomName, (u64, u64)>>);

#[async_trait]
impl Unpublished for Notes {
    async fn note(&self, room: &RoomName, first: u64, last: u64) -> Result<(), Error> {
        let mut notes = self.0.lock().unwrap();
        let noted = notes.entry(room.clone()).or_insert((first, last));
        *noted = (first.min(noted.0), last.max(noted.1));
        Ok(())
    }

    async fn all(&self) -> Result<Vec<Noted>, Error> {
        let notes = self.0.lock().unwrap();
        let noted = notes.iter().map(|(room, &(first, last))| Noted { room: room.clone(), first, last });
        Ok(noted.collect())
    }

    async fn settled(&self, room: &RoomName, seq: u64) -> Result<(), Error> {
        self.0.lock().unwrap().retain(|noted, (_, last)| noted != room || *last > seq);
        Ok(())
    }
}

/// The rooms that all nodes of a test share. Entries of the stream about others are applied as they are.
#[derive(Default)]
struct Rooms(Mutex<HashMap<RoomName, Changed>>);

#[async_trait]
impl Changes for Rooms {
    async fn recent(&self) -> Result<Vec<(RoomName, u64)>, Error> {
        Ok(self.0.lock().unwrap().values().map(|changed| (changed.room.clone(), changed.version)).collect())
    }

    async fn versions(&self, rooms: &[RoomName]) -> Result<Vec<(RoomName, u64)>, Error> {
        Ok(self.recent().await?.into_iter().filter(|(room, _)| rooms.contains(room)).collect())
    }

    async fn of(&self, rooms: &[RoomName]) -> Result<Vec<Changed>, Error> {
        let all = self.0.lock().unwrap();
        Ok(rooms.iter().filter_map(|room| all.get(room).cloned()).collect())
    }

    async fn members(&self, room: &RoomName) -> Result<Vec<Username>, Error> {
        let found = self.of(std::slice::from_ref(room)).await?;
        let users = found.into_iter().flat_map(|changed| changed.users());
        Ok(users.filter(|(_, is_in)| *is_in).map(|(user, _)| user).collect())
    }
}

/// The id of the history of a test's store, and the epoch for which the one before was ended.
#[derive(Default)]
struct Histories(Mutex<(u64, String)>);

#[async_trait]
impl Lineage for Histories {
    async fn current(&self) -> Result<String, Error> {
        Ok(format!("{:016x}", self.0.lock().unwrap().0))
    }

    async fn end(&self, epoch: &str) -> Result<String, Error> {
        let mut history = self.0.lock().unwrap();
        if history.1 != epoch {
            *history = (history.0 + 1, epoch.to_owned());
        }
        Ok(format!("{:016x}", history.0))
    }
}

struct Node {
    broker: Broker,
    stream: Arc<Stream>,
    told: mpsc::UnboundedReceiver<Entry>,
    news: mpsc::UnboundedReceiver<News>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn tea() -> RoomName {
    "tea".parse().unwrap()
}

impl Cluster {
    fn on(server: Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap();
        Self {
            server,
            history: store.history(),
            unpublished: Arc::default(),
            rooms: Arc::default(),
            lineage: Arc::default(),
            _dir: dir,
        }
    }

    async fn node(&self, name: &str) -> Node {
        let redis = Redis::new(&self.server.url()).unwrap();
        let opened = loop {
            let (history, unpublished) = (self.history.clone(), self.unpublished.clone());
            let (rooms, lineage) = (self.rooms.clone(), self.lineage.clone());
            match Stream::open(redis.clone(), name.to_owned(), history, unpublished, rooms, lineage).await {
                Ok(opened) => break opened,
                // A busy machine may be late for a first answer; roles try again, too.
                Err(error) => assert!(error.to_string().contains("in time"), "{error}"),
            }
        };
        let stream = opened.stream.clone();
        let (broker, mut queue, entries) = Broker::shared(&opened);
        let (report, news) = mpsc::unbounded_channel();
        let report = Box::new(move |news| drop(report.send(news)));
        let following = actix_rt::spawn(follow(opened, entries, report));
        let (tell, told) = mpsc::unbounded_channel();
        let position = broker.position.clone();
        let telling = actix_rt::spawn(async move {
            while let Some(entry) = queue.recv().await {
                match &entry {
                    Entry::Message { offset: Some(offset), .. } | Entry::Reached(offset) => {
                        position.reach(*offset)
                    }
                    _ => {}
                }
                let _ = tell.send(entry);
            }
        });
        broker.subscribe(&[tea()]).await.unwrap();
        Node { broker, stream, told, news, tasks: [following, telling] }
    }

    /// Stores a message and tells nobody.
    async fn stores(&self, text: &str) -> StoredMessage {
        let head = self.history.head(&tea()).await.unwrap().seq;
        let draft = Draft {
            id: format!("id of {text}"),
            author: "alice".parse().unwrap(),
            text: Text::parse(text.to_owned(), 100).unwrap(),
            client_id: None,
            timestamp: Timestamp(1),
            origin: Some(format!("socket of {text}")),
        };
        let appended = self.history.append(&tea(), head, [draft].into(), Box::new(|_| {})).await.unwrap();
        assert!(matches!(appended.outcomes[..], [Outcome::Stored { .. }]));
        self.history.since(&tea(), head, 1).await.unwrap().messages.remove(0)
    }

    /// Stores messages and tells the log of each.
    async fn says(&self, by: &Node, texts: &[&str]) {
        for text in texts {
            let kept = self.stores(text).await;
            by.broker.publish(&tea(), vec![kept]).await.unwrap();
        }
    }
}

impl Node {
    /// The texts that were told, up to this one, and their offsets.
    async fn tells(&mut self, last: &str) -> Vec<(String, Option<u64>)> {
        let mut texts = Vec::new();
        let hears = async {
            loop {
                let Some(entry) = self.told.recv().await else { panic!("the node ended") };
                let Entry::Message { message, offset, origin } = entry else { continue };
                let text = message.data.text;
                let from = origin.map(|socket| socket.as_str().to_owned());
                assert_eq!(from, Some(format!("socket of {text}")), "whoever said it would hear it");
                texts.push((text.clone(), offset));
                if text == last {
                    return;
                }
            }
        };
        timeout(PATIENCE, hears).await.unwrap_or_else(|_| panic!("{last:?} was not told"));
        texts
    }

    async fn told_exactly(&mut self, expected: &[&str]) {
        let told = self.tells(expected.last().unwrap()).await;
        let texts: Vec<&str> = told.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, expected);
    }
}

async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, until).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn raw<T>(node: &Node, ask: impl AsyncFnOnce(remote::Connection) -> Result<T, redis::RedisError>) -> T {
    node.stream.redis.ask(ask).await.unwrap()
}

#[actix_rt::test]
async fn every_node_tells_the_same_in_the_same_order() {
    let cluster = Cluster::on(Server::start());
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    cluster.says(&here, &["one"]).await;
    cluster.says(&there, &["two"]).await;
    cluster.says(&here, &["three"]).await;
    let (told, elsewhere) = (here.tells("three").await, there.tells("three").await);
    assert_eq!(told, elsewhere);
    let offsets: Vec<u64> = told.iter().map(|(_, offset)| offset.unwrap()).collect();
    assert!(offsets[1] == offsets[0] + 1 && offsets[2] == offsets[1] + 1, "{offsets:?}");
    here.broker.publish(&tea(), cluster.history.since(&tea(), 0, 9).await.unwrap().messages).await.unwrap();
    cluster.says(&there, &["four"]).await;
    here.told_exactly(&["four"]).await;
    assert_eq!(here.broker.read(&here.broker.show(offsets[0])), ParsedOffset::Here(offsets[0]));
    assert_eq!(
        there.broker.read(&here.broker.show(offsets[0])),
        ParsedOffset::Here(offsets[0]),
        "recovery works on any node"
    );
}

#[actix_rt::test]
async fn two_nodes_that_write_one_room_cannot_invert_it() {
    let cluster = Cluster::on(Server::start());
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    cluster.says(&here, &["zero"]).await;
    let (first, second) = (cluster.stores("one").await, cluster.stores("two").await);
    there.broker.publish(&tea(), vec![second]).await.unwrap();
    here.broker.publish(&tea(), vec![first]).await.unwrap();
    cluster.says(&here, &["three"]).await;
    here.told_exactly(&["zero", "one", "two", "three"]).await;
    there.told_exactly(&["zero", "one", "two", "three"]).await;
}

#[actix_rt::test]
async fn what_a_crash_left_between_store_and_log_is_told_by_who_writes_next() {
    let cluster = Cluster::on(Server::start());
    let (mut here, there) = (cluster.node("here").await, cluster.node("there").await);
    drop(there);
    // The first message ever of a room, and then more than one append holds.
    cluster.stores("lost 0").await;
    cluster.says(&here, &["one"]).await;
    here.told_exactly(&["lost 0", "one"]).await;
    let lost: Vec<String> = (1..=150).map(|n| format!("lost {n}")).collect();
    for text in &lost {
        cluster.stores(text).await;
    }
    cluster.says(&here, &["two"]).await;
    let expected: Vec<&str> = lost.iter().map(String::as_str).chain(["two"]).collect();
    here.told_exactly(&expected).await;
    // A resend finds its message stored, and the log hears of it.
    cluster.stores("three").await;
    here.broker.publish(&tea(), vec![]).await.unwrap();
    here.told_exactly(&["three"]).await;
}

/// Crashes Redis under two nodes that go on speaking, and lets it come back.
async fn redis_is_away(mut cluster: Cluster) {
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    cluster.says(&here, &["before"]).await;
    let told = here.tells("before").await;
    there.told_exactly(&["before"]).await;
    let shown = here.broker.show(told[0].1.unwrap());
    cluster.server.kill();
    cluster.says(&here, &["away 1"]).await;
    cluster.says(&there, &["away 2"]).await;
    for node in [&mut here, &mut there] {
        let told = node.tells("away 2").await;
        assert_eq!(
            told,
            [("away 1".to_owned(), None), ("away 2".to_owned(), None)],
            "they have no place in the log"
        );
    }
    cluster.server.restart();
    soon("the nodes see Redis again", async || here.stream.is_alive() && there.stream.is_alive()).await;
    cluster.says(&there, &["after 1"]).await;
    cluster.says(&here, &["after 2"]).await;
    here.told_exactly(&["after 1", "after 2"]).await;
    there.told_exactly(&["after 1", "after 2"]).await;
    assert_eq!(here.broker.read(&shown), ParsedOffset::Elsewhere, "nobody goes on from before");
    assert_eq!(
        there.broker.read(&there.broker.show(there.broker.reached())),
        ParsedOffset::Here(there.broker.reached())
    );
    let missed = there.broker.missed(&[tea()], there.broker.reached(), "x").await.unwrap();
    assert_eq!(missed.map(|missed| missed.messages.len()), Some(0));
}

#[actix_rt::test]
async fn nothing_is_lost_or_told_twice_when_redis_crashes() {
    redis_is_away(Cluster::on(Server::start())).await;
}

#[actix_rt::test]
async fn nothing_is_lost_or_told_twice_when_redis_forgets_everything() {
    redis_is_away(Cluster::on(Server::start_volatile())).await;
}

#[actix_rt::test]
async fn a_redis_that_hangs_is_as_good_as_away() {
    let cluster = Cluster::on(Server::start());
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    cluster.says(&here, &["before"]).await;
    here.told_exactly(&["before"]).await;
    there.told_exactly(&["before"]).await;
    cluster.server.pause();
    cluster.says(&here, &["away"]).await;
    here.told_exactly(&["away"]).await;
    there.told_exactly(&["away"]).await;
    cluster.server.resume();
    soon("the nodes see Redis again", async || here.stream.is_alive() && there.stream.is_alive()).await;
    cluster.says(&there, &["after"]).await;
    here.told_exactly(&["after"]).await;
    there.told_exactly(&["after"]).await;
}

#[actix_rt::test]
async fn who_comes_back_gets_all_that_was_missed_or_nothing() {
    let cluster = Cluster::on(Server::start());
    let mut here = cluster.node("here").await;
    let start = here.broker.reached();
    cluster.says(&here, &["one", "two", "three"]).await;
    here.told_exactly(&["one", "two", "three"]).await;
    let texts = async |node: &Node, rooms: &[RoomName], after: u64, origin: &str| {
        let missed = node.broker.missed(rooms, after, origin).await.unwrap()?;
        assert_eq!(missed.reached, start + 3);
        Some(missed.messages.into_iter().map(|(_, message)| message.data.text).collect::<Vec<_>>())
    };
    let there = cluster.node("there").await;
    assert_eq!(
        texts(&there, &[tea()], start, "socket of two").await.unwrap(),
        ["one", "three"],
        "not one's own"
    );
    assert_eq!(texts(&there, &[tea()], start + 2, "").await.unwrap(), ["three"]);
    assert_eq!(texts(&there, &[RoomName::lobby()], start, "").await.unwrap(), [""; 0]);
    assert_eq!(texts(&there, &[tea()], start + 4, "").await, None, "nobody was there yet");
    assert_eq!(texts(&there, &[tea()], start.saturating_sub(1), "").await, None, "of another epoch");
    raw(&here, async |mut redis| {
        redis.xtrim::<_, ()>("{log}:stream", redis::streams::StreamMaxlen::Equals(1)).await
    })
    .await;
    assert_eq!(texts(&there, &[tea()], start, "").await, None, "the log has forgotten some");
    assert_eq!(texts(&there, &[tea()], start + 2, "").await.unwrap(), ["three"]);
    assert_eq!(there.stream.offset().await.unwrap(), start + 3);
}

#[actix_rt::test]
async fn a_change_is_told_by_other_nodes_and_takes_its_place_on_ones_own() {
    let cluster = Cluster::on(Server::start());
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    let before = there.broker.memberships();
    let user: proto::Username = "bob".parse().unwrap();
    let tells = async |entry: Entry| {
        here.broker.append(entry.clone());
        here.broker.announce(&entry).await;
    };
    tells(Entry::Joined { room: tea(), user: user.clone() }).await;
    tells(Entry::Left { room: tea(), user: user.clone() }).await;
    tells(Entry::Archived { room: tea(), members: vec![user] }).await;
    let changes = async |node: &mut Node, last: &str| {
        let mut told: Vec<&str> = Vec::new();
        while told.last() != Some(&last) {
            match timeout(PATIENCE, node.told.recv()).await.expect("told").expect("runs") {
                Entry::Joined { .. } => told.push("joined"),
                Entry::Left { .. } => told.push("left"),
                Entry::Archived { .. } => told.push("archived"),
                Entry::Seated { is_in: true, .. } => told.push("in"),
                Entry::Seated { is_in: false, .. } => told.push("out"),
                _ => {}
            }
        }
        told
    };
    assert_eq!(changes(&mut there, "archived").await, ["joined", "left", "archived"]);
    // The one by the commit, the other by the stream, each in its own time.
    let told = changes(&mut here, "out").await;
    let (by_stream, by_commit): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|told| ["in", "out"].contains(told));
    assert_eq!(by_stream, ["in", "out"]);
    assert!(["joined", "left", "archived"].starts_with(&by_commit) && by_commit.len() >= 2, "{by_commit:?}");
    assert_eq!(there.broker.memberships(), before + 3);
}

#[actix_rt::test]
async fn garbage_in_the_stream_is_passed_over() {
    let cluster = Cluster::on(Server::start());
    let mut here = cluster.node("here").await;
    for garbage in ["", "{", "{\"is\":\"said\"}", "\u{0}"] {
        let mut script = super::scripts::TELL.prepare_invoke();
        script.key("{log}:epoch").key("{log}:offset").key("{log}:stream");
        script.arg(&*here.stream.position.epoch()).arg(10).arg("x").arg(garbage);
        raw(&here, async |mut redis| script.invoke_async::<u64>(&mut redis).await).await;
    }
    cluster.says(&here, &["one"]).await;
    here.told_exactly(&["one"]).await;
}
