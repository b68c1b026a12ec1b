//! Parts of which the process has one are made to panic: each works again, or the process ends with status 1. And what becomes
//! of one client when its own part panics. Needs a debug build, which alone has the faults.

use std::{net::Ipv4Addr, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::stage::{Actor, Handshake, NotLetIn, PATIENCE, Person, Request, Socket, Stage, breaks_polling};

/// What follows a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The part works again; nobody's connection ends.
    Restarts,
    /// The process ends with status 1.
    Ends,
}

use Outcome::{Ends, Restarts};

/// The parts of `serve`.
const PARTS: [(&str, Outcome); 23] = [
    ("rooms", Ends),
    ("log", Ends),
    ("shard", Ends),
    ("roster", Ends),
    ("presence server", Ends),
    ("presence relay", Ends),
    ("users-write", Ends),
    ("sessions-write", Ends),
    ("chat-write", Ends),
    ("admin server", Ends),
    ("admin worker", Ends),
    ("http worker", Ends),
    ("heartbeat", Ends),
    ("users-read", Restarts),
    ("sessions-read", Restarts),
    ("chat-read", Restarts),
    ("presence client", Restarts),
    ("report", Restarts),
    ("revocation", Restarts),
    ("known sessions", Restarts),
    ("password pool", Restarts),
    ("upkeep", Restarts),
    ("readiness log", Restarts),
];

/// Servers at a time.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_that_panics_works_again_or_ends_the_process() {
    for parts in PARTS.chunks(AT_ONCE) {
        join_all(parts.iter().map(|(part, outcome)| panics(part, *outcome))).await;
    }
}

async fn panics(part: &str, outcome: Outcome) {
    let mut stage = Stage::opens().await;
    let (mut alice, mut bob) = (stage.enters("alice").await, stage.enters("bob").await);
    let mut acked = vec![alice.says("before").await["id"].clone()];
    if !stage.server.injects(0, part).await {
        return;
    }
    let spent = async {
        for number in 0.. {
            bustles(&stage, &mut alice, number, &mut acked).await;
            if stage.server.has_panicked(0, part).await {
                return;
            }
        }
    };
    timeout(2 * PATIENCE, spent).await.unwrap_or_else(|_| panic!("{part}: the fault was not reached"));
    if outcome == Ends {
        let status = stage.server.process_ends(0).await;
        assert_eq!(status.code(), Some(1), "{part}: {}", stage.server.log());
        stage.server.restart().await;
        (alice, bob) = (returns(alice.person).await, returns(bob.person).await);
    }
    stage.server.is_ready().await;
    acked.push(alice.says("after").await["id"].clone());
    bob.hears("after").await;
    are_online(&bob.person, &["alice", "bob"]).await;
    alice.person.logs_out().await;
    alice.ends().await;
    are_online(&bob.person, &["bob"]).await;
    let stored = bob.person.reads_all("lobby").await;
    for (message, seq) in stored.iter().zip(1..) {
        assert_eq!(message["seq"], seq, "{part}: {stored:?}");
    }
    for id in acked {
        assert!(stored.iter().any(|message| message["id"] == id), "{part}: {id} is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_accepts_connections_ends_the_process_with_it() {
    let mut stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut acked = Vec::new();
    for server in 0..2 {
        acked.push(alice.says(&format!("message {server}")).await["id"].clone());
        let acceptors = stage.server.acceptors(0);
        assert_eq!(acceptors.len(), 2, "one for clients, one for operators");
        let acceptor = acceptors[server].clone();
        tokio::task::spawn_blocking(move || breaks_polling(&acceptor)).await.expect("strace runs");
        let status = stage.server.process_ends(0).await;
        assert_eq!(status.code(), Some(1), "{}", stage.server.log());
        stage.server.has_logged("http acceptor").await;
        stage.server.restart().await;
        alice = returns(alice.person).await;
    }
    let stored = alice.person.reads_all("lobby").await;
    assert_eq!(stored.iter().map(|message| message["id"].clone()).collect::<Vec<_>>(), acked);
}

#[tokio::test]
async fn a_request_that_panics_is_answered_and_counted() {
    let stage = Stage::opens().await;
    let (mut alice, mut bob) = (stage.enters("alice").await, stage.enters("bob").await);
    stage.server.answers_panics(0).await;
    alice.says("people talk").await;
    bob.hears("people talk").await;
}

/// Something for every part to do. What fails is left: that is what the fault is for.
async fn bustles(stage: &Stage, alice: &mut Actor, number: usize, acked: &mut Vec<serde_json::Value>) {
    let id = alice.request("message", &json!({"room": "lobby", "text": format!("{number}")}));
    if let Ok(Some(ack)) = timeout(Duration::from_millis(500), alice.try_answer(id)).await
        && ack["ok"] == true
    {
        acked.push(ack["id"].clone());
    }
    let newcomer = stage.stranger(&format!("newcomer{number}"));
    let credentials = newcomer.credentials();
    for target in ["/user/register", "/user/login"] {
        let request = Request::post(target, &credentials);
        let Some(answer) = request.try_send(newcomer.home, newcomer.server).await else { return };
        if let Some(token) = answer.token() {
            let handshake = Handshake::default().cookie(&token);
            let tab = newcomer.tries(handshake).await;
            let logout = Request::post("/user/logout", &json!({})).cookie(&token);
            let _ = logout.try_send(newcomer.home, newcomer.server).await;
            drop(tab);
        }
    }
}

/// The same person, with a connection of now.
async fn returns(person: Person) -> Actor {
    let tab = person.connects().await;
    Actor::new(person, tab)
}

/// Waits until these are online, for whoever asks.
async fn are_online(person: &Person, names: &[&str]) {
    let online = async {
        loop {
            let answer = person.gets("/presence/online").await;
            if answer.status == 200 && answer.json() == json!({"online": names}) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, online).await.unwrap_or_else(|_| panic!("{names:?} are not online"));
}

#[tokio::test]
async fn a_store_whose_writer_hangs_is_not_ready_until_it_goes_on() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    for store in ["chat", "users", "sessions"] {
        if !stage.server.injects(0, &format!("{store}-write hangs")).await {
            return;
        }
        let stuck = alice.request("message", &json!({"text": store, "clientId": store}));
        let newcomer = stage.stranger(&format!("newcomer-{store}"));
        let registers = Request::post("/user/register", &newcomer.credentials());
        let logs_in = Request::post("/user/login", &newcomer.credentials());
        let hung = async {
            registers.send(newcomer.home, newcomer.server).await;
            logs_in.send(newcomer.home, newcomer.server).await;
        };
        let seen = async {
            let refused = readiness(&stage, 503).await;
            assert!(refused.contains(store), "{refused}");
            readiness(&stage, 200).await;
        };
        tokio::join!(hung, seen);
        alice.try_answer(stuck).await;
        alice.says(&format!("{store} writes again")).await;
    }
}

/// Waits until `/readyz` answers with this status; what it says.
async fn readiness(stage: &Stage, status: u16) -> String {
    let asked = async {
        loop {
            let answer = Request::get("/readyz").send(Ipv4Addr::LOCALHOST, stage.server.admin).await;
            if answer.status == status {
                return answer.body;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("/readyz does not become {status}"))
}

#[tokio::test]
async fn a_panic_for_one_client_ends_that_connection_and_nothing_else() {
    let stage = Stage::opens().await;
    let mut bob = stage.enters("bob").await;
    let alice = stage.person("alice").await;
    for part in ["session", "event", "visit", "ack", "pipe", "closed", "connect", "room", "request"] {
        let mut tab = alice.connects().await;
        are_online(&bob.person, &["alice", "bob"]).await;
        if !stage.server.injects(0, part).await {
            return;
        }
        match part {
            "closed" => drop(tab),
            "connect" => {
                let refused = alice.tries(alice.handshake()).await.err();
                let code = refused.and_then(|refused| match refused {
                    NotLetIn::Ended(ending) => ending.code,
                    _ => None,
                });
                assert_eq!(code, Some(1011));
                tab.says("the other tab lives").await;
                drop(tab);
            }
            "request" => {
                let history = Request::get("/rooms/lobby/messages").cookie(alice.token());
                let answer = alice.asks(history).await;
                assert_eq!((answer.status, answer.header("connection")), (500, Some("close")));
                alice.reads_all("lobby").await;
                tab.says("the tab lives").await;
                drop(tab);
            }
            "room" => {
                let refused = tab.asks("message", &json!({"text": "lost"})).await;
                assert_eq!(refused["code"], "unavailable", "{refused}");
                tab.says("the room is there again").await;
                drop(tab);
            }
            _ => ends_by_its_event(&mut tab, part).await,
        }
        are_online(&bob.person, &["bob"]).await;
        assert!(stage.server.has_panicked(0, part).await, "{part}");
        bob.says(part).await;
    }
    assert_eq!(stage.server.counts("godzilla_panics_total{part=\"chat\"}").await, 7);
    let stored = bob.person.reads_all("lobby").await;
    for (message, seq) in stored.iter().zip(1..) {
        assert_eq!(message["seq"], seq, "{stored:?}");
    }
}

/// The event of a client that panics ends its connection: nothing more comes over it.
async fn ends_by_its_event(tab: &mut Socket, part: &str) {
    let id = tab.request("message", &json!({"text": "any"}));
    assert_eq!(tab.try_answer(id).await, None, "{part}");
    let ending = tab.ends().await;
    assert!(!ending.left, "{part}: stock clients would stay away");
    // A pipe takes its connection along; else there is a close frame.
    assert_eq!(ending.code, (part != "pipe").then_some(1011), "{part}");
}
