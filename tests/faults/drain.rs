//! A chat node is asked to stop under load: everybody it holds goes on elsewhere, and hears everything once and in order.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::{task::JoinHandle, time::interval};

use crate::stage::{Handshake, NODES, Person, Request, Response, Socket, Stage, soon};

/// Sockets on the node.
const SOCKETS: usize = 2_000;
/// Sessions that poll.
const POLLERS: usize = 40;
/// How many connect at once.
const AT_ONCE: usize = 32;
/// Those who talk, each slower than a user may.
const SPEAKERS: usize = 10;
/// What is said altogether.
const MESSAGES: usize = 300;
/// What is said before the node is asked to stop.
const BEFORE: usize = 40;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two attempts to come back, for so many that all of them fit into what is left of the talk.
const RETRY: Duration = Duration::from_millis(500);

/// What one socket heard, and how often it came back.
struct Heard {
    places: Vec<u64>,
    comebacks: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_sockets_of_a_node_that_stops_go_on_elsewhere_and_miss_nothing() {
    let mut stage = Stage::opens_split().await;
    let people = stage.people_for("client", SOCKETS).await;
    let speakers = stage.people_for("speaker", SPEAKERS * 20).await;
    let [going, staying] = NODES;
    // While there is no other, all of them come to this one.
    stage.server.process_is_asked_to_stop(staying).await;
    let opening = (0..SOCKETS).map(|n| {
        let person = people[n % people.len()].clone();
        async { (person.connects().await, person) }
    });
    let sockets: Vec<_> = stream::iter(opening).buffer_unordered(AT_ONCE).collect().await;
    stage.server.process_returns(staying).await;
    let listening = sockets.into_iter().map(|(socket, person)| tokio::spawn(listens(person, socket)));
    let listeners: Vec<_> = listening.collect();

    let mut talk = interval(PAUSE);
    let mut asked: Vec<JoinHandle<u64>> = Vec::new();
    for n in 0..MESSAGES {
        talk.tick().await;
        let (speaker, text) = (speakers[n % SPEAKERS].clone(), format!("{n} of {MESSAGES}"));
        asked.push(tokio::spawn(says(speaker, text)));
        if n == BEFORE {
            stage.server.processes[going].signal("TERM");
        }
    }
    let status = stage.server.process_ends(going).await;
    assert_eq!(status.code(), Some(0));
    let mut stored = Vec::new();
    for said in asked {
        stored.push(soon("an answer", said).await.expect("it fails only by an assertion"));
    }
    stored.sort_unstable();
    assert_eq!(stored, (1..=MESSAGES as u64).collect::<Vec<_>>(), "acked");
    for listener in listeners {
        let heard =
            soon("a listener to hear the last", listener).await.expect("it fails only by an assertion");
        assert_eq!(heard.places, stored, "lost, doubled or out of order");
        assert_eq!(heard.comebacks, 1, "everybody was on the node that stopped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_polls_a_node_that_stops_is_told_by_a_close_packet_and_never_that_the_session_is_unknown() {
    let mut stage = Stage::opens_split().await;
    let people = stage.people_for("client", POLLERS).await;
    let [going, staying] = NODES;
    stage.server.process_is_asked_to_stop(staying).await;
    let mut sessions = Vec::new();
    for n in 0..POLLERS {
        let person = people[n % people.len()].clone();
        let open = polls(&person, "").await.expect(200).body;
        let sid = open.split('"').nth(3).expect("the open packet has an id").to_owned();
        posts(&person, &format!("&sid={sid}"), "40").await;
        sessions.push((person, format!("&sid={sid}")));
    }
    stage.server.process_returns(staying).await;
    let listening = sessions.into_iter().map(|(person, sid)| tokio::spawn(polls_to_the_end(person, sid)));
    let listeners: Vec<_> = listening.collect();
    let status = stage.server.process_is_asked_to_stop(going).await;
    assert_eq!(status.code(), Some(0));
    for listener in listeners {
        soon("the end of a session", listener).await.expect("it fails only by an assertion");
    }
    // And who comes now finds the node that stays.
    polls(&people[0], "").await.expect(200);
}

async fn polls(person: &Person, sid: &str) -> Response {
    person.asks(Request::get(&format!("/socket.io/?EIO=4&transport=polling{sid}"))).await
}

/// Answers pings until the server ends the session.
async fn polls_to_the_end(person: Person, sid: String) {
    loop {
        let heard = polls(&person, &sid).await.expect(200).body;
        if heard.split('\u{1e}').any(|packet| packet == "1") {
            return;
        }
        if heard.split('\u{1e}').any(|packet| packet == "2") {
            posts(&person, &sid, "3").await;
        }
    }
}

async fn posts(person: &Person, sid: &str, packet: &str) {
    let target = format!("/socket.io/?EIO=4&transport=polling{sid}");
    let post = Request::new("POST", &target).body("text/plain;charset=UTF-8", packet);
    person.asks(post).await.expect(200);
}

/// Says something, again while the node that is asked is about to go; its place.
async fn says(speaker: Person, text: String) -> u64 {
    loop {
        let said = json!({"text": text, "clientId": text});
        let answer = speaker.posts("/rooms/lobby/messages", &said).await;
        if answer.status != 503 {
            let stored = answer.expect(201);
            return stored.json()["seq"].as_u64().expect("a place");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hears all that is said, and comes back when the connection ends.
async fn listens(person: Person, mut socket: Socket) -> Heard {
    let mut heard = Heard { places: Vec::new(), comebacks: 0 };
    loop {
        while socket.is_open_for(RETRY).await {
            heard.takes(&mut socket);
            if heard.places.len() >= MESSAGES {
                return heard;
            }
        }
        heard.takes(&mut socket);
        let auth = json!({"pid": socket.pid, "offset": socket.offset});
        let old = socket.pid.clone();
        socket = loop {
            tokio::time::sleep(RETRY).await;
            let handshake = Handshake { auth: Some(auth.clone()), ..person.handshake() };
            if let Ok(socket) =
                person.tries(crate::stage::Handshake { auth: Some(auth.clone()), ..handshake }).await
            {
                break socket;
            }
        };
        assert_eq!(socket.pid, old, "recovered");
        socket.offset = auth["offset"].as_str().map(ToOwned::to_owned);
        heard.comebacks += 1;
    }
}

impl Heard {
    fn takes(&mut self, socket: &mut Socket) {
        self.places.extend(socket.heard.iter().filter_map(|message| message["seq"].as_u64()));
        socket.forgets();
    }
}
