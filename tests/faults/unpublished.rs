//! Messages while Redis answers reads and refuses writes: each socket receives each message of its rooms once and in order, whatever
//! the room is, when it was made, and by which way its members came.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use testkit::{Redis, RedisFault};
use tokio::time::sleep;

use crate::support::{ConnectedUser, NODES, Request, Response, TestServer, TestUser, with_timeout};

/// Ways in which Redis takes no message and answers reads.
#[derive(Debug, Clone, Copy)]
enum Half {
    /// The roles have lost the right to append.
    NoAppend,
    /// They have lost the right to run scripts that write.
    NoWrite,
    /// It was made the replica of a primary that does not answer.
    ReadOnly,
    /// Its memory is used up.
    Full,
}

impl Half {
    const ALL: [Self; 4] = [Self::NoAppend, Self::NoWrite, Self::ReadOnly, Self::Full];

    fn inject(self, redis: &Redis) {
        match self {
            Self::NoAppend => redis.execute("ACL SETUSER godzilla -xadd"),
            Self::NoWrite => RedisFault::Forbidden.inject(redis),
            Self::ReadOnly => RedisFault::Demoted.inject(redis),
            Self::Full => RedisFault::Full.inject(redis),
        }
    }

    fn clear(self, redis: &Redis) {
        match self {
            Self::NoAppend => redis.execute("ACL SETUSER godzilla +xadd"),
            Self::NoWrite => RedisFault::Forbidden.clear(redis),
            Self::ReadOnly => RedisFault::Demoted.clear(redis),
            Self::Full => RedisFault::Full.clear(redis),
        }
    }
}

/// How a room comes to be and gets its members.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Public; the others enter it by `join`.
    Public,
    /// Private; the others are added.
    Private,
    /// Private and ephemeral; the others are added.
    Ephemeral,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Public, Self::Private, Self::Ephemeral];
}

/// Alice and carol are on one node, bob on the other. All were connected before any of the rooms was made.
struct Cast {
    alice: ConnectedUser,
    bob: ConnectedUser,
    carol: ConnectedUser,
}

impl Cast {
    async fn enters(server: &TestServer) -> Self {
        let alice = server.connected_user("alice").await;
        let (mut bob, mut carol) = (None, None);
        for n in 0..60 {
            let other = server.connected_user(&format!("other{n}")).await;
            let place = if node_of(&other) == node_of(&alice) { &mut carol } else { &mut bob };
            if place.is_none() {
                *place = Some(other);
            }
            if bob.is_some() && carol.is_some() {
                break;
            }
        }
        let (bob, carol) = bob.zip(carol).expect("two nodes have three people");
        Self { alice, bob, carol }
    }

    async fn gathers(&mut self, room: &str, kind: Kind) {
        let (private, ephemeral) = (!matches!(kind, Kind::Public), matches!(kind, Kind::Ephemeral));
        let new = json!({"name": room, "private": private, "ephemeral": ephemeral});
        patiently(&self.alice.user, || Request::post("/rooms", &new), 201).await;
        for member in [&mut self.bob, &mut self.carol] {
            let name = member.user.name.clone();
            if let Kind::Public = kind {
                member.join(room).await;
            } else {
                let add = format!("/rooms/{room}/members/{name}");
                patiently(&self.alice.user, || Request::new("PUT", &add), 200).await;
                member
                    .until("room:joined", |event| event["room"] == room && event["username"] == *name)
                    .await;
            }
        }
    }

    /// Everybody says something by socket and over HTTP, and the others receive it.
    async fn talk(&mut self, room: &str, when: &str) {
        let text = |who: &str, way: &str| format!("{when} {room}: {who} {way}");
        says(&mut self.alice, room, &text("alice", "by socket")).await;
        self.bob.receive_message(&text("alice", "by socket")).await;
        self.carol.receive_message(&text("alice", "by socket")).await;
        let target = format!("/rooms/{room}/messages");
        let sent = json!({"text": text("bob", "over HTTP")});
        patiently(&self.bob.user, || Request::post(&target, &sent), 201).await;
        for who in [&mut self.alice, &mut self.bob, &mut self.carol] {
            who.receive_message(&text("bob", "over HTTP")).await;
        }
        says(&mut self.bob, room, &text("bob", "by socket")).await;
        self.alice.receive_message(&text("bob", "by socket")).await;
        self.carol.receive_message(&text("bob", "by socket")).await;
    }

    /// Each has received all that is stored but what their own socket has sent, once and in order.
    async fn have_received_all_once(&mut self, rooms: &[String], what: &str) {
        let cast = [
            (&mut self.alice, "alice by socket"),
            (&mut self.bob, "bob by socket"),
            (&mut self.carol, "nobody"),
        ];
        for (who, own) in cast {
            who.receive_pending().await;
            let mut received: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for message in &who.received {
                let room = message["room"].as_str().unwrap_or_default().to_owned();
                received.entry(room).or_default().push(place(message));
            }
            for room in rooms {
                let stored = who.user.read_history(room).await;
                let expected: Vec<String> = stored
                    .iter()
                    .filter(|message| {
                        !message["data"]["text"].as_str().is_some_and(|text| text.ends_with(own))
                    })
                    .map(place)
                    .collect();
                assert!(!expected.is_empty(), "{what}: nothing was said in {room}");
                let received = received.remove(room).unwrap_or_default();
                assert_eq!(received, expected, "{what}: {} in {room}", who.user.name);
            }
        }
    }
}

fn place(message: &Value) -> String {
    format!("{} {}", message["seq"], message["data"]["text"])
}

/// Says something as soon as the limit of messages allows it.
async fn says(who: &mut ConnectedUser, room: &str, text: &str) {
    with_timeout("a message within the limit", async {
        loop {
            let ack = who.emit_with_ack("message", &json!({"room": room, "text": text})).await;
            let Some(wait) = ack["retryAfter"].as_f64() else { return assert_eq!(ack["ok"], true, "{ack}") };
            sleep(Duration::from_secs_f64(wait)).await;
        }
    })
    .await;
}

fn node_of(actor: &ConnectedUser) -> String {
    actor.session.rsplit_once('.').map(|(_, node)| node.to_owned()).expect("a session names its node")
}

/// Asks until the limit of requests allows it.
async fn patiently(user: &TestUser, request: impl Fn() -> Request, status: u16) -> Response {
    with_timeout("a request within the limit", async {
        loop {
            let answer = user.request(request()).await;
            if answer.status != 429 {
                return answer.expect(status);
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
}

fn redis(server: &TestServer) -> &Redis {
    &server.system.stores.as_ref().expect("a split system").redis
}

#[tokio::test]
async fn in_rooms_of_every_kind_and_age_everything_is_received_once_and_in_order() {
    let mut server = TestServer::start_split().await;
    let mut cast = Cast::enters(&server).await;
    let mut rooms = Vec::new();
    for (number, half) in Half::ALL.into_iter().enumerate() {
        // Made before, and nothing was said in them.
        let before: Vec<String> =
            Kind::ALL.iter().map(|kind| format!("{kind:?}{number}").to_lowercase()).collect();
        for (room, kind) in before.iter().zip(Kind::ALL) {
            Box::pin(cast.gathers(room, kind)).await;
        }
        half.inject(redis(&server));
        // Made meanwhile.
        let meanwhile: Vec<String> = before.iter().map(|room| format!("{room}-late")).collect();
        for (room, kind) in meanwhile.iter().zip(Kind::ALL) {
            Box::pin(cast.gathers(room, kind)).await;
        }
        let all: Vec<String> = before.into_iter().chain(meanwhile).collect();
        for room in &all {
            Box::pin(cast.talk(room, "away")).await;
        }
        half.clear(redis(&server));
        server.system.wait_until_ready().await;
        rooms.extend(all);
        for room in &rooms {
            Box::pin(cast.talk(room, &format!("back {number}"))).await;
        }
        Box::pin(cast.have_received_all_once(&rooms, &format!("{half:?}"))).await;
    }
}

#[tokio::test]
async fn a_node_that_starts_again_meanwhile_loses_and_repeats_nothing() {
    let mut server = TestServer::start_split().await;
    let mut cast = Cast::enters(&server).await;
    let node = NODES[usize::from(node_of(&cast.bob) != "one")];
    for (number, half) in Half::ALL.into_iter().enumerate() {
        let room = format!("room{number}");
        Box::pin(cast.gathers(&room, Kind::Private)).await;
        half.inject(redis(&server));
        cast.alice.send_message_to(&room, "one").await;
        cast.bob.receive_message("one").await;
        cast.carol.receive_message("one").await;
        server.system.processes[node].kill();
        cast.alice.send_message_to(&room, "two").await;
        cast.carol.receive_message("two").await;
        half.clear(redis(&server));
        server.system.restart_process(node).await;
        cast.alice.send_message_to(&room, "three").await;
        cast.carol.receive_message("three").await;
        let Cast { alice, bob, carol } = &mut cast;
        let mut back = with_timeout("a place on a node", async {
            loop {
                if let Ok(socket) = bob.user.try_connect(bob.user.handshake()).await {
                    break socket;
                }
            }
        })
        .await;
        let joined = back.emit_with_ack("join", &json!({"room": room, "since": 1})).await;
        let mut seqs: Vec<u64> = Vec::new();
        let missed = joined["messages"].as_array().cloned().unwrap_or_default();
        seqs.extend(missed.iter().filter_map(|message| message["seq"].as_u64()));
        alice.send_message_to(&room, "four").await;
        carol.receive_message("four").await;
        back.receive_message("four").await;
        let live = back.received.iter().filter(|message| message["room"] == *room);
        let live: Vec<u64> = live.filter_map(|message| message["seq"].as_u64()).collect();
        assert!(live.is_sorted_by(|a, b| a < b), "{half:?}: {live:?}");
        seqs.extend(live);
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs, [2, 3, 4], "{half:?}: {joined}");
        let texts = carol.texts().into_iter().skip(number * 4).collect::<Vec<_>>();
        assert_eq!(texts, ["one", "two", "three", "four"], "{half:?}");
        *bob = ConnectedUser::new(bob.user.clone(), back);
    }
}
