//! Messages while Redis answers reads and refuses writes: each socket receives each message of its rooms once and in order, whatever
//! the room is, when it was made, and by which way its members came.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use testkit::{Redis, RedisFault};
use tokio::time::sleep;

use crate::stage::{Actor, NODES, Person, Request, Response, Stage, soon};

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
    alice: Actor,
    bob: Actor,
    carol: Actor,
}

impl Cast {
    async fn enters(stage: &Stage) -> Self {
        let alice = stage.enters("alice").await;
        let (mut bob, mut carol) = (None, None);
        for n in 0..60 {
            let other = stage.enters(&format!("other{n}")).await;
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
        patiently(&self.alice.person, || Request::post("/rooms", &new), 201).await;
        for guest in [&mut self.bob, &mut self.carol] {
            let name = guest.person.name.clone();
            if let Kind::Public = kind {
                guest.joins(room).await;
            } else {
                let add = format!("/rooms/{room}/members/{name}");
                patiently(&self.alice.person, || Request::new("PUT", &add), 200).await;
                guest.until("room:joined", |event| event["room"] == room && event["username"] == *name).await;
            }
        }
    }

    /// Everybody says something by socket and over HTTP, and the others receive it.
    async fn talk(&mut self, room: &str, when: &str) {
        let text = |who: &str, way: &str| format!("{when} {room}: {who} {way}");
        says(&mut self.alice, room, &text("alice", "by socket")).await;
        self.bob.hears(&text("alice", "by socket")).await;
        self.carol.hears(&text("alice", "by socket")).await;
        let target = format!("/rooms/{room}/messages");
        let said = json!({"text": text("bob", "over HTTP")});
        patiently(&self.bob.person, || Request::post(&target, &said), 201).await;
        for who in [&mut self.alice, &mut self.bob, &mut self.carol] {
            who.hears(&text("bob", "over HTTP")).await;
        }
        says(&mut self.bob, room, &text("bob", "by socket")).await;
        self.alice.hears(&text("bob", "by socket")).await;
        self.carol.hears(&text("bob", "by socket")).await;
    }

    /// Each has received all that is stored but what their own socket has sent, once and in order.
    async fn have_received_all_once(&mut self, rooms: &[String], what: &str) {
        let cast = [
            (&mut self.alice, "alice by socket"),
            (&mut self.bob, "bob by socket"),
            (&mut self.carol, "nobody"),
        ];
        for (who, own) in cast {
            who.hears_out().await;
            let mut heard: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for message in &who.heard {
                let room = message["room"].as_str().unwrap_or_default().to_owned();
                heard.entry(room).or_default().push(place(message));
            }
            for room in rooms {
                let stored = who.person.reads_all(room).await;
                let expected: Vec<String> = stored
                    .iter()
                    .filter(|message| {
                        !message["data"]["text"].as_str().is_some_and(|text| text.ends_with(own))
                    })
                    .map(place)
                    .collect();
                assert!(!expected.is_empty(), "{what}: nothing was said in {room}");
                let received = heard.remove(room).unwrap_or_default();
                assert_eq!(received, expected, "{what}: {} in {room}", who.person.name);
            }
        }
    }
}

fn place(message: &Value) -> String {
    format!("{} {}", message["seq"], message["data"]["text"])
}

/// Says something as soon as the limit of messages allows it.
async fn says(who: &mut Actor, room: &str, text: &str) {
    soon("a message within the limit", async {
        loop {
            let ack = who.asks("message", &json!({"room": room, "text": text})).await;
            let Some(wait) = ack["retryAfter"].as_f64() else { return assert_eq!(ack["ok"], true, "{ack}") };
            sleep(Duration::from_secs_f64(wait)).await;
        }
    })
    .await;
}

fn node_of(actor: &Actor) -> String {
    actor.session.rsplit_once('.').map(|(_, node)| node.to_owned()).expect("a session names its node")
}

/// Asks until the limit of requests allows it.
async fn patiently(person: &Person, request: impl Fn() -> Request, status: u16) -> Response {
    soon("a request within the limit", async {
        loop {
            let answer = person.asks(request()).await;
            if answer.status != 429 {
                return answer.expect(status);
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
}

fn redis(stage: &Stage) -> &Redis {
    &stage.server.stores.as_ref().expect("a split system").redis
}

#[tokio::test]
async fn in_rooms_of_every_kind_and_age_everything_is_received_once_and_in_order() {
    let mut stage = Stage::opens_split().await;
    let mut cast = Cast::enters(&stage).await;
    let mut rooms = Vec::new();
    for (number, half) in Half::ALL.into_iter().enumerate() {
        // Made before, and nothing was said in them.
        let before: Vec<String> =
            Kind::ALL.iter().map(|kind| format!("{kind:?}{number}").to_lowercase()).collect();
        for (room, kind) in before.iter().zip(Kind::ALL) {
            Box::pin(cast.gathers(room, kind)).await;
        }
        half.inject(redis(&stage));
        // Made meanwhile.
        let meanwhile: Vec<String> = before.iter().map(|room| format!("{room}-late")).collect();
        for (room, kind) in meanwhile.iter().zip(Kind::ALL) {
            Box::pin(cast.gathers(room, kind)).await;
        }
        let all: Vec<String> = before.into_iter().chain(meanwhile).collect();
        for room in &all {
            Box::pin(cast.talk(room, "away")).await;
        }
        half.clear(redis(&stage));
        stage.server.is_ready().await;
        rooms.extend(all);
        for room in &rooms {
            Box::pin(cast.talk(room, &format!("back {number}"))).await;
        }
        Box::pin(cast.have_received_all_once(&rooms, &format!("{half:?}"))).await;
    }
}

#[tokio::test]
async fn a_node_that_starts_again_meanwhile_loses_and_repeats_nothing() {
    let mut stage = Stage::opens_split().await;
    let mut cast = Cast::enters(&stage).await;
    let node = NODES[usize::from(node_of(&cast.bob) != "one")];
    for (number, half) in Half::ALL.into_iter().enumerate() {
        let room = format!("room{number}");
        Box::pin(cast.gathers(&room, Kind::Private)).await;
        half.inject(redis(&stage));
        cast.alice.says_in(&room, "one").await;
        cast.bob.hears("one").await;
        cast.carol.hears("one").await;
        stage.server.processes[node].kill();
        cast.alice.says_in(&room, "two").await;
        cast.carol.hears("two").await;
        half.clear(redis(&stage));
        stage.server.process_returns(node).await;
        cast.alice.says_in(&room, "three").await;
        cast.carol.hears("three").await;
        let Cast { alice, bob, carol } = &mut cast;
        let mut back = soon("a place on a node", async {
            loop {
                if let Ok(socket) = bob.person.tries(bob.person.handshake()).await {
                    break socket;
                }
            }
        })
        .await;
        let joined = back.asks("join", &json!({"room": room, "since": 1})).await;
        let mut seqs: Vec<u64> = Vec::new();
        let missed = joined["messages"].as_array().cloned().unwrap_or_default();
        seqs.extend(missed.iter().filter_map(|message| message["seq"].as_u64()));
        alice.says_in(&room, "four").await;
        carol.hears("four").await;
        back.hears("four").await;
        let live = back.heard.iter().filter(|message| message["room"] == *room);
        let live: Vec<u64> = live.filter_map(|message| message["seq"].as_u64()).collect();
        assert!(live.is_sorted_by(|a, b| a < b), "{half:?}: {live:?}");
        seqs.extend(live);
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs, [2, 3, 4], "{half:?}: {joined}");
        let texts = carol.texts().into_iter().skip(number * 4).collect::<Vec<_>>();
        assert_eq!(texts, ["one", "two", "three", "four"], "{half:?}");
        *bob = Actor::new(bob.person.clone(), back);
    }
}
