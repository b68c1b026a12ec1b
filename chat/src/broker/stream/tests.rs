//! Nodes that share a real Redis and one store of messages. After any fault of Redis or of a node, each node delivers every message once
//! and in order.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use async_trait::async_trait;

use proto::{
    RoomName, Timestamp, Username,
    event::{Item, MemberState},
};
use remote::redis::{self, AsyncCommands};
use tempfile::TempDir;
use testkit::{Redis as Server, RedisFault};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{Stream, follow};
use crate::{
    Error, SqliteStore, Text,
    broker::{Broker, Control, Entry, ParsedOffset, RoomEvent, RoomEventKind, conformance},
    changes::{Changed, Changes},
    directory::{ChangeKind, ChangesSince, Role},
    history::{Draft, History, Journal, MissedBy, Outcome, StoredMessage},
    redis::Redis,
    unpublished::{Noted, Unpublished},
};

mod changes;
mod event_log;

/// The timeout of each expectation, for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Cluster {
    server: Server,
    history: Arc<dyn History>,
    unpublished: Arc<Notes>,
    rooms: Arc<Rooms>,
    _dir: TempDir,
}

/// The notes of unpublished messages that all nodes of a test share.
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

    async fn resolve(&self, room: &RoomName, seq: u64) -> Result<(), Error> {
        self.0.lock().unwrap().retain(|noted, (_, last)| noted != room || *last > seq);
        Ok(())
    }
}

/// The rooms that all nodes of a test share. Records about other rooms are applied directly.
#[derive(Default)]
struct Rooms(Mutex<HashMap<RoomName, Changed>>);

impl Rooms {
    fn all(&self) -> Vec<(RoomName, u64)> {
        self.0.lock().unwrap().values().map(|changed| (changed.room.clone(), changed.version)).collect()
    }
}

#[async_trait]
impl Changes for Rooms {
    async fn recent(&self) -> Result<Vec<(RoomName, u64)>, Error> {
        Ok(self.all())
    }

    async fn versions(&self, rooms: &[RoomName]) -> Result<Vec<(RoomName, u64)>, Error> {
        Ok(self.all().into_iter().filter(|(room, _)| rooms.contains(room)).collect())
    }

    async fn of(&self, rooms: &[RoomName]) -> Result<Vec<Changed>, Error> {
        let all = self.0.lock().unwrap();
        Ok(rooms.iter().filter_map(|room| all.get(room).cloned()).collect())
    }

    async fn members(&self, room: &RoomName) -> Result<Vec<Username>, Error> {
        let found = self.of(std::slice::from_ref(room)).await?;
        let mut members: Vec<Username> = Vec::new();
        for change in found.into_iter().filter(|room| room.is_open).flat_map(|room| room.changes) {
            match change.what {
                ChangeKind::Joined(user) => members.push(user),
                ChangeKind::Left(user) => members.retain(|member| *member != user),
                ChangeKind::Archived | ChangeKind::Other => {}
            }
        }
        Ok(members)
    }

    async fn since(&self, room: &RoomName, rev: u64) -> Result<Option<ChangesSince>, Error> {
        let found = self.of(std::slice::from_ref(room)).await?.pop().filter(|found| found.is_open);
        let Some(found) = found else { return Ok(None) };
        let members = self.members(room).await?;
        let mut users: Vec<(u64, Username)> = Vec::new();
        for change in found.changes.iter().filter(|change| change.version > rev) {
            if let ChangeKind::Joined(user) | ChangeKind::Left(user) = &change.what {
                users.retain(|(_, other)| other != user);
                users.push((change.version, user.clone()));
            }
        }
        let items = users.into_iter().map(|(rev, username)| {
            let role = members.contains(&username).then_some(Role::Member);
            (rev, Item::Member { member: MemberState { username, role }, by: None })
        });
        Ok(Some(ChangesSince::page(found.version, items.collect())))
    }
}

struct Node {
    broker: Broker,
    stream: Arc<Stream>,
    delivered: mpsc::UnboundedReceiver<Entry>,
    following: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// A client of alice that is in these rooms.
fn client(rooms: &[RoomName]) -> MissedBy<'_> {
    static ALICE: LazyLock<Username> = LazyLock::new(|| "alice".parse().unwrap());
    MissedBy { user: &ALICE, rooms, socket: "x" }
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
            _dir: dir,
        }
    }

    async fn node(&self, name: &str) -> Node {
        let redis = Redis::new(&self.server.url()).unwrap();
        let opened = loop {
            let (history, unpublished) = (self.history.clone(), self.unpublished.clone());
            let (rooms, id) = (self.rooms.clone(), "0000000000000001");
            match Stream::open(redis.clone(), name.to_owned(), history, unpublished, rooms, id).await {
                Ok(opened) => break opened,
                // On a busy machine the first answer may be late. Roles retry, too.
                Err(error) => assert!(error.to_string().contains("in time"), "{error}"),
            }
        };
        let stream = opened.stream.clone();
        let (broker, queue, entries) = Broker::shared(&opened);
        let following = actix_rt::spawn(follow(opened, entries, Box::new(drop)));
        let delivered = conformance::forward(&broker, queue);
        broker.subscribe(&[tea()]).await.unwrap();
        Node { broker, stream, delivered, following }
    }

    /// Stores a message in [`tea`] without publishing it.
    async fn store_message(&self, text: &str) -> StoredMessage {
        self.store_in(&tea(), text).await
    }

    async fn store_in(&self, room: &RoomName, text: &str) -> StoredMessage {
        let head = self.history.head(room).await.unwrap().seq;
        let draft = Draft {
            id: format!("id of {text}"),
            author: "alice".parse().unwrap(),
            text: Text::parse(text.to_owned(), 100).unwrap(),
            client_id: None,
            timestamp: Timestamp(1),
            origin: Some(format!("socket of {text}")),
        };
        let appended = self.history.append(room, head, [draft].into(), Box::new(|_| {})).await.unwrap();
        assert!(matches!(appended.outcomes[..], [Outcome::Stored { .. }]));
        self.history.since(room, head, 1).await.unwrap().messages.remove(0)
    }

    /// Stores messages and publishes each.
    async fn publish_on(&self, by: &Node, texts: &[&str]) {
        for text in texts {
            let stored = self.store_message(text).await;
            by.broker.publish(&tea(), vec![stored]).await.unwrap();
        }
    }
}

impl Node {
    /// The delivered texts, up to this one, and their offsets.
    async fn messages_until(&mut self, last: &str) -> Vec<(String, Option<u64>)> {
        let mut texts = Vec::new();
        let receives = async {
            loop {
                let Some(entry) = self.delivered.recv().await else { panic!("the node ended") };
                let Entry::Event(RoomEvent {
                    offset, kind: RoomEventKind::Message { message, origin }, ..
                }) = entry
                else {
                    continue;
                };
                let text = message.data.text;
                let from = origin.map(|socket| socket.as_str().to_owned());
                assert_eq!(
                    from,
                    Some(format!("socket of {text}")),
                    "the sender would receive its own message"
                );
                texts.push((text.clone(), offset));
                if text == last {
                    return;
                }
            }
        };
        timeout(TIMEOUT, receives).await.unwrap_or_else(|_| panic!("{last:?} was not delivered"));
        texts
    }

    async fn expect_messages(&mut self, expected: &[&str]) {
        let delivered = self.messages_until(expected.last().unwrap()).await;
        let texts: Vec<&str> = delivered.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, expected);
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, until).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn raw<T>(node: &Node, ask: impl AsyncFnOnce(remote::Connection) -> Result<T, redis::RedisError>) -> T {
    node.stream.redis.ask(ask).await.unwrap()
}

#[actix_rt::test]
async fn every_node_delivers_the_same_messages_in_the_same_order() {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    cluster.publish_on(&first, &["one"]).await;
    cluster.publish_on(&second, &["two"]).await;
    cluster.publish_on(&first, &["three"]).await;
    let (delivered, elsewhere) = (first.messages_until("three").await, second.messages_until("three").await);
    assert_eq!(delivered, elsewhere);
    let offsets: Vec<u64> = delivered.iter().map(|(_, offset)| offset.unwrap()).collect();
    assert!(offsets[1] == offsets[0] + 1 && offsets[2] == offsets[1] + 1, "{offsets:?}");
    first.broker.publish(&tea(), cluster.history.since(&tea(), 0, 9).await.unwrap().messages).await.unwrap();
    cluster.publish_on(&second, &["four"]).await;
    first.expect_messages(&["four"]).await;
    assert_eq!(
        first.broker.parse_offset(&first.broker.format_offset(offsets[0])),
        ParsedOffset::Current(offsets[0])
    );
    assert_eq!(
        second.broker.parse_offset(&first.broker.format_offset(offsets[0])),
        ParsedOffset::Current(offsets[0]),
        "recovery works on any node"
    );
}

#[actix_rt::test]
async fn two_nodes_that_write_one_room_cannot_reorder_it() {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    cluster.publish_on(&first, &["zero"]).await;
    let (one, two) = (cluster.store_message("one").await, cluster.store_message("two").await);
    second.broker.publish(&tea(), vec![two]).await.unwrap();
    first.broker.publish(&tea(), vec![one]).await.unwrap();
    cluster.publish_on(&first, &["three"]).await;
    first.expect_messages(&["zero", "one", "two", "three"]).await;
    second.expect_messages(&["zero", "one", "two", "three"]).await;
}

#[actix_rt::test]
async fn the_next_writer_publishes_messages_that_a_crash_left_in_the_store() {
    let cluster = Cluster::on(Server::start());
    let (mut first, second) = (cluster.node("first").await, cluster.node("second").await);
    drop(second);
    // First the first message of a room, then more messages than one append holds.
    cluster.store_message("lost 0").await;
    cluster.publish_on(&first, &["one"]).await;
    first.expect_messages(&["lost 0", "one"]).await;
    let lost: Vec<String> = (1..=150).map(|n| format!("lost {n}")).collect();
    for text in &lost {
        cluster.store_message(text).await;
    }
    cluster.publish_on(&first, &["two"]).await;
    let expected: Vec<&str> = lost.iter().map(String::as_str).chain(["two"]).collect();
    first.expect_messages(&expected).await;
    // A resend finds its message stored, and publishes it.
    cluster.store_message("three").await;
    first.broker.publish(&tea(), vec![]).await.unwrap();
    first.expect_messages(&["three"]).await;
}

#[actix_rt::test]
async fn no_message_is_lost_or_duplicated_when_redis_loses_all_data() {
    let mut cluster = Cluster::on(Server::start_volatile());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    cluster.publish_on(&first, &["before"]).await;
    let delivered = first.messages_until("before").await;
    second.expect_messages(&["before"]).await;
    let offset = first.broker.format_offset(delivered[0].1.unwrap());
    cluster.server.kill();
    cluster.publish_on(&first, &["away 1"]).await;
    cluster.publish_on(&second, &["away 2"]).await;
    for node in [&mut first, &mut second] {
        let delivered = node.messages_until("away 2").await;
        assert_eq!(
            delivered,
            [("away 1".to_owned(), None), ("away 2".to_owned(), None)],
            "they have no offset"
        );
    }
    cluster.server.restart();
    eventually("the nodes follow the stream again", async || {
        first.stream.is_available() && second.stream.is_available()
    })
    .await;
    cluster.publish_on(&second, &["after 1"]).await;
    cluster.publish_on(&first, &["after 2"]).await;
    first.expect_messages(&["after 1", "after 2"]).await;
    let delivered = second.messages_until("after 2").await;
    let [(_, _), (_, last)] = &delivered[..] else { panic!("{delivered:?}") };
    eventually("the position follows the message", async || Some(second.broker.reached()) >= *last).await;
    assert_eq!(
        first.broker.parse_offset(&offset),
        ParsedOffset::OtherEpoch,
        "no client recovers from an earlier epoch"
    );
    assert_eq!(
        second.broker.parse_offset(&second.broker.format_offset(second.broker.reached())),
        ParsedOffset::Current(second.broker.reached())
    );
    // While Redis does not answer in time, clients reload.
    eventually("clients recover from the position", async || {
        let missed = second.broker.missed(client(&[tea()]), second.broker.reached()).await;
        missed.is_ok_and(|missed| missed.is_some_and(|missed| missed.messages.is_empty()))
    })
    .await;
}

/// Acknowledged messages reach every node while Redis answers reads and refuses writes. The stream is repaired afterwards.
#[actix_rt::test]
async fn messages_reach_all_nodes_while_redis_refuses_writes() {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    for (number, refusal) in RedisFault::ALL.into_iter().enumerate() {
        let text = |what: &str| format!("{what} {number}");
        cluster.publish_on(&first, &[&text("before")]).await;
        first.expect_messages(&[&text("before")]).await;
        second.expect_messages(&[&text("before")]).await;
        refusal.inject(&cluster.server);
        cluster.publish_on(&first, &[&text("away")]).await;
        first.expect_messages(&[&text("away")]).await;
        second.expect_messages(&[&text("away")]).await;
        assert!(first.stream.redis.problem().await.is_some(), "{refusal:?}");
        refusal.clear(&cluster.server);
        let repaired = async || cluster.unpublished.all().await.unwrap().is_empty();
        eventually(&format!("{refusal:?}: the stream is repaired"), repaired).await;
        cluster.publish_on(&second, &[&text("after")]).await;
        first.expect_messages(&[&text("after")]).await;
        second.expect_messages(&[&text("after")]).await;
    }
}

#[actix_rt::test]
async fn recovery_returns_all_missed_messages_or_fails() {
    let cluster = Cluster::on(Server::start());
    let mut first = cluster.node("first").await;
    let start = first.broker.reached();
    cluster.publish_on(&first, &["one", "two", "three"]).await;
    first.expect_messages(&["one", "two", "three"]).await;
    let texts = async |node: &Node, rooms: &[RoomName], after: u64, origin: &str| {
        let client = MissedBy { socket: origin, ..client(rooms) };
        let missed = node.broker.missed(client, after).await.unwrap()?;
        assert_eq!(missed.reached, start + 3);
        Some(missed.messages.into_iter().map(|(_, message)| message.data.text).collect::<Vec<_>>())
    };
    let second = cluster.node("second").await;
    assert_eq!(
        texts(&second, &[tea()], start, "socket of two").await.unwrap(),
        ["one", "three"],
        "without its own message"
    );
    assert_eq!(texts(&second, &[tea()], start + 2, "").await.unwrap(), ["three"]);
    assert_eq!(texts(&second, &[RoomName::lobby()], start, "").await.unwrap(), [""; 0]);
    assert_eq!(texts(&second, &[tea()], start + 4, "").await, None, "an offset after the last one");
    assert_eq!(
        texts(&second, &[tea()], start.saturating_sub(1), "").await,
        None,
        "an offset of another epoch"
    );
    raw(&first, async |mut redis| {
        redis.xtrim::<_, ()>("{log}:stream", redis::streams::StreamMaxlen::Equals(1)).await
    })
    .await;
    assert_eq!(texts(&second, &[tea()], start, "").await, None, "some records were trimmed");
    assert_eq!(texts(&second, &[tea()], start + 2, "").await.unwrap(), ["three"]);
    assert_eq!(second.stream.offset().await.unwrap(), start + 3);
}
