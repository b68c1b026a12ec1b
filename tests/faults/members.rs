//! Changes of members and rooms while Redis refuses to append them to the log: every node applies them within the documented
//! bound, also when the node that made the change is killed right after its answer.

use std::time::Duration;

use serde_json::json;
use testkit::{Redis, RedisFault};
use tokio::time::sleep;

use crate::support::{ConnectedUser, NODES, Request, Response, Socket, TestServer, TestUser, with_timeout};

/// Ways in which nothing can be appended to the log.
#[derive(Debug, Clone, Copy)]
enum Refused {
    /// The roles have lost the right to append.
    Append,
    /// Everything that writes is refused.
    Writes(RedisFault),
}

impl Refused {
    const ALL: [Self; 3] = [Self::Append, Self::Writes(RedisFault::Demoted), Self::Writes(RedisFault::Full)];

    fn begins(self, redis: &Redis) {
        match self {
            Self::Append => redis.execute("ACL SETUSER godzilla -xadd"),
            Self::Writes(refusal) => refusal.inject(redis),
        }
    }

    fn ends(self, redis: &Redis) {
        match self {
            Self::Append => redis.execute("ACL SETUSER godzilla +xadd"),
            Self::Writes(refusal) => refusal.clear(redis),
        }
    }
}

/// A change after which bob is not in the room any more.
#[derive(Debug, Clone, Copy)]
enum End {
    Removed,
    Left,
    LeftBySocket,
    Archived,
    EphemeralArchived,
}

impl End {
    const ALL: [Self; 5] =
        [Self::Removed, Self::Left, Self::LeftBySocket, Self::Archived, Self::EphemeralArchived];

    /// Who has left several rooms of one adder is not added by them any more, so bob enters those by himself.
    fn is_left(self) -> bool {
        matches!(self, Self::Left | Self::LeftBySocket)
    }

    fn ends_the_room(self) -> bool {
        matches!(self, Self::Archived | Self::EphemeralArchived)
    }
}

/// Alice is on one node, bob and carol are on the other.
struct Cast {
    alice: ConnectedUser,
    bob: ConnectedUser,
    carol: ConnectedUser,
    /// Another tab of carol's.
    tab: Socket,
}

impl Cast {
    async fn enters(server: &TestServer, number: usize) -> Self {
        let alice = server.connected_user(&format!("alice{number}")).await;
        let (mut bob, mut carol) = (None, None);
        for n in 0..60 {
            let other = server.connected_user(&format!("other{number}x{n}")).await;
            if node_of(&other) == node_of(&alice) {
                continue;
            }
            if bob.is_none() {
                bob = Some(other);
            } else {
                carol = Some(other);
                break;
            }
        }
        let (bob, carol) = bob.zip(carol).expect("everybody is on the same node");
        let tab = carol.open_tab().await;
        Self { alice, bob, carol, tab }
    }

    /// Alice makes a room with all three in it.
    async fn gathers(&mut self, room: &str, end: End) {
        let ephemeral = matches!(end, End::EphemeralArchived);
        let new = json!({"name": room, "private": !end.is_left(), "ephemeral": ephemeral});
        patiently(&self.alice.user, || Request::post("/rooms", &new), 201).await;
        for member in [&mut self.bob, &mut self.carol] {
            let add = format!("/rooms/{room}/members/{}", member.user.name);
            let by = if end.is_left() { &member.user } else { &self.alice.user };
            patiently(by, || Request::new("PUT", &add), 200).await;
            let name = member.user.name.clone();
            member.until("room:joined", |event| event["room"] == room && event["username"] == *name).await;
        }
    }

    /// Everybody hears something in the room.
    async fn talks(&mut self, room: &str) {
        let text = format!("hello {room}");
        self.alice.send_message_to(room, &text).await;
        for member in [&mut *self.bob, &mut *self.carol, &mut self.tab] {
            member.receive_message(&text).await;
        }
    }

    /// The answer to the change is 200 or its ack is ok.
    async fn ends(&mut self, end: End, room: &str) {
        let member = format!("/rooms/{room}/members/{}", self.bob.user.name);
        match end {
            End::Removed | End::Left => {
                let by = if end.is_left() { &self.bob.user } else { &self.alice.user };
                patiently(by, || Request::new("DELETE", &member), 200).await;
            }
            End::LeftBySocket => {
                let ack = self.bob.emit_with_ack("leave", &json!({"room": room})).await;
                assert_eq!(ack["ok"], true, "{ack}");
            }
            End::Archived | End::EphemeralArchived => {
                let target = format!("/rooms/{room}");
                patiently(&self.alice.user, || Request::new("DELETE", &target), 200).await;
            }
        }
    }

    /// Bob's socket and alice's are told that bob has left.
    async fn learn_of_the_end(&mut self, end: End, room: &str) {
        let bob = self.bob.user.name.clone();
        self.bob.until("room:left", |event| event["room"] == room && event["username"] == *bob).await;
        if !end.ends_the_room() {
            self.alice.until("room:left", |event| event["room"] == room && event["username"] == *bob).await;
        }
    }

    /// What is said in the room from now on does not reach bob, and every node refuses bob over HTTP.
    async fn bob_is_out(&mut self, end: End, room: &str, secret: &str) {
        let target = format!("/rooms/{room}/messages");
        let status = if end.is_left() { 403 } else { 404 };
        reads(&self.bob.user, &target, status).await;
        let refused = self.bob.emit_with_ack("message", &json!({"room": room, "text": "still here"})).await;
        assert_eq!(refused["ok"], false, "{end:?}: bob posts to {room}: {refused}");
        if end.ends_the_room() {
            reads(&self.carol.user, &target, 404).await;
            return;
        }
        let described = reads(&self.carol.user, &format!("/rooms/{room}"), 200).await.body;
        assert!(!described.contains(&self.bob.user.name), "{end:?}: {described}");
        self.carol.send_message_to(room, secret).await;
        self.tab.receive_message(secret).await;
        self.carol.send_message(&format!("fence {secret}")).await;
        self.bob.receive_message(&format!("fence {secret}")).await;
        assert!(!self.bob.has_received(secret), "{end:?}: bob hears {room}");
    }
}

fn node_of(actor: &ConnectedUser) -> String {
    actor.session.rsplit_once('.').map(|(_, node)| node.to_owned()).expect("a session names its node")
}

/// Reads until there is an answer: on a busy machine a store may be late.
async fn reads(user: &TestUser, target: &str, status: u16) -> Response {
    with_timeout("an answer", async {
        loop {
            let answer = user.get(target).await;
            if answer.status != 503 {
                return answer.expect(status);
            }
        }
    })
    .await
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
async fn while_nothing_can_be_appended_to_the_log_members_and_rooms_change_on_every_node() {
    let mut server = TestServer::start_split().await;
    let mut cast = Cast::enters(&server, 0).await;
    let mut leavers = Vec::new();
    for number in 0..Refused::ALL.len() {
        leavers.push(server.connected_user(&format!("leaver{number}")).await);
    }
    for (number, refused) in Refused::ALL.into_iter().enumerate() {
        let rooms = End::ALL.map(|end| (end, format!("room-{number}-{}", end as u8)));
        for (end, room) in &rooms {
            Box::pin(cast.gathers(room, *end)).await;
            Box::pin(cast.talks(room)).await;
        }
        refused.begins(redis(&server));
        for (end, room) in &rooms {
            Box::pin(cast.ends(*end, room)).await;
            Box::pin(cast.learn_of_the_end(*end, room)).await;
            Box::pin(cast.bob_is_out(*end, room, &format!("secret {room}"))).await;
        }
        let mut leaver = leavers.pop().expect("one for each refusal");
        let logout = leaver.user.post("/user/logout", &json!({})).await;
        if matches!(refused, Refused::Writes(RedisFault::Demoted)) {
            // Nothing is promised that cannot be kept.
            assert_eq!(logout.status, 503, "{refused:?}: {logout:?}");
        } else {
            assert_eq!(logout.status, 200, "{refused:?}: {logout:?}");
            leaver.closed().await;
        }
        // A room that begins meanwhile, and an addition to it.
        let begun = format!("begun-{number}");
        Box::pin(cast.gathers(&begun, End::Removed)).await;
        refused.ends(redis(&server));
        server.system.wait_until_ready().await;
        for (end, room) in &rooms {
            Box::pin(cast.bob_is_out(*end, room, &format!("secret after {room}"))).await;
        }
        cast.alice.send_message_to(&begun, "welcome").await;
        cast.bob.receive_message("welcome").await;
        cast.bob.receive_pending().await;
        let bob = cast.bob.user.name.clone();
        let again = cast.bob.waiting("room:left", |event| event["username"] == *bob);
        assert_eq!(again, 0, "{refused:?}: bob is told twice");
    }
}

#[tokio::test]
async fn a_removal_holds_on_other_nodes_when_its_own_node_is_killed_after_the_answer() {
    let mut server = TestServer::start_split().await;
    for (number, refused) in Refused::ALL.into_iter().enumerate() {
        let mut cast = Cast::enters(&server, number).await;
        let room = format!("room-{number}");
        Box::pin(cast.gathers(&room, End::Removed)).await;
        Box::pin(cast.talks(&room)).await;
        refused.begins(redis(&server));
        Box::pin(cast.ends(End::Removed, &room)).await;
        let node = NODES[usize::from(node_of(&cast.alice) != "one")];
        server.system.processes[node].kill();
        let bob = cast.bob.user.name.clone();
        cast.bob.until("room:left", |event| event["room"] == *room && event["username"] == *bob).await;
        Box::pin(cast.bob_is_out(End::Removed, &room, &format!("secret {number}"))).await;
        refused.ends(redis(&server));
        server.system.restart_process(node).await;
    }
}
