//! A chat node is asked to stop under load: everybody it holds goes on elsewhere, and hears everything once and in order.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::{task::JoinHandle, time::interval};

use crate::support::{Handshake, NODES, Request, Response, Socket, TestServer, TestUser, with_timeout};

/// Sockets on the node.
const SOCKETS: usize = 2_000;
/// Sessions that poll.
const POLLERS: usize = 40;
/// How many connect at once.
const AT_ONCE: usize = 32;
/// Those who talk, each slower than a user may.
const SENDERS: usize = 10;
/// What is said altogether.
const MESSAGES: usize = 300;
/// What is said before the node is asked to stop.
const BEFORE: usize = 40;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two attempts to come back, for so many that all of them fit into what is left of the talk.
const RETRY: Duration = Duration::from_millis(500);

/// What one socket heard, and how often it came back.
struct Received {
    places: Vec<u64>,
    comebacks: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_sockets_of_a_node_that_stops_go_on_elsewhere_and_miss_nothing() {
    let mut server = TestServer::start_split().await;
    let users = server.users_for("client", SOCKETS).await;
    let senders = server.users_for("speaker", SENDERS * 20).await;
    let [going, staying] = NODES;
    // While there is no other, all of them come to this one.
    server.system.stop_process(staying).await;
    let opening = (0..SOCKETS).map(|n| {
        let user = users[n % users.len()].clone();
        async { (user.connect().await, user) }
    });
    let sockets: Vec<_> = stream::iter(opening).buffer_unordered(AT_ONCE).collect().await;
    server.system.restart_process(staying).await;
    let listening = sockets.into_iter().map(|(socket, user)| tokio::spawn(listens(user, socket)));
    let listeners: Vec<_> = listening.collect();

    let mut talk = interval(PAUSE);
    let mut asked: Vec<JoinHandle<u64>> = Vec::new();
    for n in 0..MESSAGES {
        talk.tick().await;
        let (sender, text) = (senders[n % SENDERS].clone(), format!("{n} of {MESSAGES}"));
        asked.push(tokio::spawn(says(sender, text)));
        if n == BEFORE {
            server.system.processes[going].signal("TERM");
        }
    }
    let status = server.system.wait_for_exit(going).await;
    assert_eq!(status.code(), Some(0));
    let mut stored = Vec::new();
    for sent in asked {
        stored.push(with_timeout("an answer", sent).await.expect("it fails only by an assertion"));
    }
    stored.sort_unstable();
    assert_eq!(stored, (1..=MESSAGES as u64).collect::<Vec<_>>(), "acked");
    for listener in listeners {
        let received = with_timeout("a listener to hear the last", listener)
            .await
            .expect("it fails only by an assertion");
        assert_eq!(received.places, stored, "lost, doubled or out of order");
        assert_eq!(received.comebacks, 1, "everybody was on the node that stopped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_polls_a_node_that_stops_is_told_by_a_close_packet_and_never_that_the_session_is_unknown() {
    let mut server = TestServer::start_split().await;
    let users = server.users_for("client", POLLERS).await;
    let [going, staying] = NODES;
    server.system.stop_process(staying).await;
    let mut sessions = Vec::new();
    for n in 0..POLLERS {
        let user = users[n % users.len()].clone();
        let open = polls(&user, "").await.expect(200).body;
        let sid = open.split('"').nth(3).expect("the open packet has an id").to_owned();
        posts(&user, &format!("&sid={sid}"), "40").await;
        sessions.push((user, format!("&sid={sid}")));
    }
    server.system.restart_process(staying).await;
    let listening = sessions.into_iter().map(|(user, sid)| tokio::spawn(polls_to_the_end(user, sid)));
    let listeners: Vec<_> = listening.collect();
    let status = server.system.stop_process(going).await;
    assert_eq!(status.code(), Some(0));
    for listener in listeners {
        with_timeout("the end of a session", listener).await.expect("it fails only by an assertion");
    }
    // And who comes now finds the node that stays.
    polls(&users[0], "").await.expect(200);
}

async fn polls(user: &TestUser, sid: &str) -> Response {
    user.request(Request::get(&format!("/socket.io/?EIO=4&transport=polling{sid}"))).await
}

/// Answers pings until the server ends the session.
async fn polls_to_the_end(user: TestUser, sid: String) {
    loop {
        let received = polls(&user, &sid).await.expect(200).body;
        if received.split('\u{1e}').any(|packet| packet == "1") {
            return;
        }
        if received.split('\u{1e}').any(|packet| packet == "2") {
            posts(&user, &sid, "3").await;
        }
    }
}

async fn posts(user: &TestUser, sid: &str, packet: &str) {
    let target = format!("/socket.io/?EIO=4&transport=polling{sid}");
    let post = Request::new("POST", &target).body("text/plain;charset=UTF-8", packet);
    user.request(post).await.expect(200);
}

/// Says something, again while the node that is asked is about to go; its place.
async fn says(sender: TestUser, text: String) -> u64 {
    loop {
        let sent = json!({"text": text, "clientId": text});
        let answer = sender.post("/rooms/lobby/messages", &sent).await;
        if answer.status != 503 {
            let stored = answer.expect(201);
            return stored.json()["seq"].as_u64().expect("a place");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hears all that is said, and comes back when the connection ends.
async fn listens(user: TestUser, mut socket: Socket) -> Received {
    let mut received = Received { places: Vec::new(), comebacks: 0 };
    loop {
        while socket.is_open_for(RETRY).await {
            received.takes(&mut socket);
            if received.places.len() >= MESSAGES {
                return received;
            }
        }
        received.takes(&mut socket);
        let auth = json!({"pid": socket.pid, "offset": socket.offset});
        let old = socket.pid.clone();
        socket = loop {
            tokio::time::sleep(RETRY).await;
            let handshake = Handshake { auth: Some(auth.clone()), ..user.handshake() };
            if let Ok(socket) =
                user.try_connect(crate::support::Handshake { auth: Some(auth.clone()), ..handshake }).await
            {
                break socket;
            }
        };
        assert_eq!(socket.pid, old, "recovered");
        socket.offset = auth["offset"].as_str().map(ToOwned::to_owned);
        received.comebacks += 1;
    }
}

impl Received {
    fn takes(&mut self, socket: &mut Socket) {
        self.places.extend(socket.received.iter().filter_map(|message| message["seq"].as_u64()));
        socket.clear();
    }
}
