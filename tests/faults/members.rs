//! Changes of members and rooms while Redis refuses writes to the stream: every node applies them within the documented bound, even
//! when the node that made the change is killed right after its response.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::write_faults::{WriteFault, node_of, redis, request_with_retry};
use crate::support::{ConnectedUser, NODES, Request, Response, Socket, TestServer, TestUser, with_timeout};

/// The maximum age of the members and settings against which a node checks a post. It holds on a busy machine, too.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A change that ends bob's membership of a room.
#[derive(Debug, Clone, Copy)]
enum Departure {
    Removed,
    Left,
    LeftBySocket,
    Archived,
    EphemeralArchived,
}

impl Departure {
    const ALL: [Self; 5] =
        [Self::Removed, Self::Left, Self::LeftBySocket, Self::Archived, Self::EphemeralArchived];

    /// A user who has left several rooms of one owner can no longer be added by that owner, so bob joins these rooms himself.
    fn is_left(self) -> bool {
        matches!(self, Self::Left | Self::LeftBySocket)
    }

    fn archives_the_room(self) -> bool {
        matches!(self, Self::Archived | Self::EphemeralArchived)
    }
}

/// Alice is connected to one node, bob and carol to the other.
struct Users {
    alice: ConnectedUser,
    bob: ConnectedUser,
    carol: ConnectedUser,
    /// A second socket of carol.
    tab: Socket,
}

impl Users {
    async fn connect(server: &TestServer, number: usize) -> Self {
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
        let (bob, carol) = bob.zip(carol).expect("users on both nodes");
        let tab = carol.open_tab().await;
        Self { alice, bob, carol, tab }
    }

    /// Alice creates a room; bob and carol become members.
    async fn create_room(&mut self, room: &str, departure: Departure) {
        let ephemeral = matches!(departure, Departure::EphemeralArchived);
        let new = json!({"name": room, "private": !departure.is_left(), "ephemeral": ephemeral});
        request_with_retry(&self.alice.user, || Request::post("/rooms", &new), 201).await;
        for member in [&mut self.bob, &mut self.carol] {
            let add = format!("/rooms/{room}/members/{}", member.user.name);
            let by = if departure.is_left() { &member.user } else { &self.alice.user };
            request_with_retry(by, || Request::new("PUT", &add), 200).await;
            let name = member.user.name.clone();
            member.until("room:joined", |event| event["room"] == room && event["username"] == *name).await;
        }
    }

    /// Alice and bob send a message to the room; the others receive it. The room is then loaded on both nodes.
    async fn exchange_message(&mut self, room: &str) {
        let text = format!("hello {room}");
        self.alice.send_message_to(room, &text).await;
        for member in [&mut *self.bob, &mut *self.carol, &mut self.tab] {
            member.receive_message(&text).await;
        }
        let text = format!("hello from bob in {room}");
        self.bob.send_message_to(room, &text).await;
        self.alice.receive_message(&text).await;
    }

    /// Makes the change; its response must be 200 or its ack ok.
    async fn apply(&mut self, departure: Departure, room: &str) {
        let member = format!("/rooms/{room}/members/{}", self.bob.user.name);
        match departure {
            Departure::Removed | Departure::Left => {
                let by = if departure.is_left() { &self.bob.user } else { &self.alice.user };
                request_with_retry(by, || Request::new("DELETE", &member), 200).await;
            }
            Departure::LeftBySocket => {
                let ack = self.bob.emit_with_ack("leave", &json!({"room": room})).await;
                assert_eq!(ack["ok"], true, "{ack}");
            }
            Departure::Archived | Departure::EphemeralArchived => {
                let target = format!("/rooms/{room}");
                request_with_retry(&self.alice.user, || Request::new("DELETE", &target), 200).await;
            }
        }
    }

    /// Bob's socket and, while the room exists, alice's socket receive `room:left` of bob.
    async fn receive_departure(&mut self, departure: Departure, room: &str) {
        let bob = self.bob.user.name.clone();
        self.bob.until("room:left", |event| event["room"] == room && event["username"] == *bob).await;
        if !departure.archives_the_room() {
            self.alice.until("room:left", |event| event["room"] == room && event["username"] == *bob).await;
        }
    }

    /// Bob, and carol when the room is archived, post through the node that has not made the change, by socket and over HTTP. Each post that
    /// is sent [`MAX_AGE`] after the response to the change or later is refused, however late the answer is.
    async fn check_posts_are_refused(&mut self, departure: Departure, room: &str) {
        let begun = Instant::now();
        let post = json!({"room": room, "text": "after the end"});
        let target = format!("/rooms/{room}/messages");
        let mut posters = vec![&mut self.bob];
        if departure.archives_the_room() {
            posters.push(&mut self.carol);
        }
        for poster in posters {
            loop {
                let is_bounded = begun.elapsed() >= MAX_AGE;
                let ack = poster.emit_with_ack("message", &post).await;
                let answer = poster.user.post(&target, &json!({"text": "after the end"})).await;
                let is_refused = ack["code"] == "not_found" || ack["code"] == "forbidden";
                if is_refused && [403, 404].contains(&answer.status) {
                    break;
                }
                let is_accepted = ack["ok"] == true || answer.status == 201;
                assert!(!(is_bounded && is_accepted), "{departure:?}: posts to {room}: {ack} {answer:?}");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Bob receives no later message of the room, and every node refuses bob's requests for it.
    async fn check_bob_is_removed(&mut self, departure: Departure, room: &str, secret: &str) {
        let target = format!("/rooms/{room}/messages");
        let status = if departure.is_left() { 403 } else { 404 };
        read_with_retry(&self.bob.user, &target, status).await;
        let refused = self.bob.emit_with_ack("message", &json!({"room": room, "text": "still here"})).await;
        assert_eq!(refused["ok"], false, "{departure:?}: bob posts to {room}: {refused}");
        if departure.archives_the_room() {
            read_with_retry(&self.carol.user, &target, 404).await;
            return;
        }
        let described = read_with_retry(&self.carol.user, &format!("/rooms/{room}"), 200).await.body;
        assert!(!described.contains(&self.bob.user.name), "{departure:?}: {described}");
        self.carol.send_message_to(room, secret).await;
        self.tab.receive_message(secret).await;
        self.carol.send_message(&format!("fence {secret}")).await;
        self.bob.receive_message(&format!("fence {secret}")).await;
        assert!(!self.bob.has_received(secret), "{departure:?}: bob received a message of {room}");
    }
}

/// Reads, and retries on 503: on a busy machine a store may time out.
async fn read_with_retry(user: &TestUser, target: &str, status: u16) -> Response {
    with_timeout("a response", async {
        loop {
            let answer = user.get(target).await;
            if answer.status != 503 {
                return answer.expect(status);
            }
        }
    })
    .await
}

#[tokio::test]
async fn while_nothing_can_be_appended_to_the_stream_members_and_rooms_change_on_every_node() {
    let mut server = TestServer::start_split().await;
    let mut users = Users::connect(&server, 0).await;
    let mut leavers = Vec::new();
    for number in 0..WriteFault::ALL.len() {
        leavers.push(server.connected_user(&format!("leaver{number}")).await);
    }
    for (number, fault) in WriteFault::ALL.into_iter().enumerate() {
        let rooms = Departure::ALL.map(|departure| (departure, format!("room-{number}-{}", departure as u8)));
        for (departure, room) in &rooms {
            Box::pin(users.create_room(room, *departure)).await;
            Box::pin(users.exchange_message(room)).await;
        }
        fault.inject(redis(&server));
        for (departure, room) in &rooms {
            Box::pin(users.apply(*departure, room)).await;
            Box::pin(users.check_posts_are_refused(*departure, room)).await;
            Box::pin(users.receive_departure(*departure, room)).await;
            Box::pin(users.check_bob_is_removed(*departure, room, &format!("secret {room}"))).await;
        }
        let mut leaver = leavers.pop().expect("one for each fault");
        let logout = leaver.user.post("/user/logout", &json!({})).await;
        if fault.refuses_logouts() {
            // The revocation cannot be stored durably, so the logout is refused.
            assert_eq!(logout.status, 503, "{fault:?}: {logout:?}");
        } else {
            assert_eq!(logout.status, 200, "{fault:?}: {logout:?}");
            leaver.closed().await;
        }
        // A room that is created during the fault, and its members.
        let created = format!("created-{number}");
        Box::pin(users.create_room(&created, Departure::Removed)).await;
        fault.clear(redis(&server));
        server.system.wait_until_ready().await;
        for (departure, room) in &rooms {
            Box::pin(users.check_bob_is_removed(*departure, room, &format!("secret after {room}"))).await;
        }
        users.alice.send_message_to(&created, "welcome").await;
        users.bob.receive_message("welcome").await;
        users.bob.receive_pending().await;
        let bob = users.bob.user.name.clone();
        let again = users.bob.waiting("room:left", |event| event["username"] == *bob);
        assert_eq!(again, 0, "{fault:?}: bob received the departure twice");
    }
}

/// The stream works. The bound is the same as without it.
#[tokio::test]
async fn a_post_through_another_node_is_refused_soon_after_the_change() {
    let server = TestServer::start_split().await;
    let mut users = Users::connect(&server, 0).await;
    for departure in Departure::ALL {
        let room = format!("room-{}", departure as u8);
        Box::pin(users.create_room(&room, departure)).await;
        Box::pin(users.exchange_message(&room)).await;
        Box::pin(users.apply(departure, &room)).await;
        Box::pin(users.check_posts_are_refused(departure, &room)).await;
    }
}

/// A node is suspended while another one removes a member. A post of the former member waits in the suspended node for more than the bound.
/// The node handles it as soon as it runs again, before it reads the stream.
#[tokio::test]
async fn a_post_that_waits_in_a_suspended_node_is_refused_after_a_removal() {
    let server = TestServer::start_split().await;
    let mut users = Users::connect(&server, 0).await;
    let node = NODES[usize::from(node_of(&users.bob) != "one")];
    for departure in [Departure::Removed, Departure::Archived, Departure::EphemeralArchived] {
        let room = format!("room-{}", departure as u8);
        Box::pin(users.create_room(&room, departure)).await;
        Box::pin(users.exchange_message(&room)).await;
        server.system.processes[node].signal("STOP");
        Box::pin(users.apply(departure, &room)).await;
        // The bound.
        sleep(MAX_AGE).await;
        let post = json!({"room": room, "text": "after the end"});
        let posts: Vec<u64> = (0..8).map(|_| users.bob.request("message", &post)).collect();
        server.system.processes[node].signal("CONT");
        for post in posts {
            let ack = users.bob.try_ack(post).await.expect("the connection stays");
            assert!(ack["code"] == "not_found" || ack["code"] == "unavailable", "{departure:?}: {ack}");
        }
    }
}

#[tokio::test]
async fn a_removal_applies_on_other_nodes_when_its_node_is_killed_after_the_response() {
    let mut server = TestServer::start_split().await;
    for (number, fault) in WriteFault::ALL.into_iter().enumerate() {
        let mut users = Users::connect(&server, number).await;
        let room = format!("room-{number}");
        Box::pin(users.create_room(&room, Departure::Removed)).await;
        Box::pin(users.exchange_message(&room)).await;
        fault.inject(redis(&server));
        Box::pin(users.apply(Departure::Removed, &room)).await;
        let node = NODES[usize::from(node_of(&users.alice) != "one")];
        server.system.processes[node].kill();
        let bob = users.bob.user.name.clone();
        users.bob.until("room:left", |event| event["room"] == *room && event["username"] == *bob).await;
        Box::pin(users.check_bob_is_removed(Departure::Removed, &room, &format!("secret {number}"))).await;
        fault.clear(redis(&server));
        server.system.restart_process(node).await;
    }
}
