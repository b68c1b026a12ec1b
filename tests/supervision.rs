//! Parts that exist once per process panic: each restarts, or the process exits with status 1. And the effect of a panic in the part of
//! one client. Needs a debug build: only debug builds have the fault points.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{
    ConnectFailure, ConnectedUser, Handshake, Request, Socket, TIMEOUT, TestServer, TestUser,
};

/// The effect of a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The part restarts; no connection ends.
    Restarts,
    /// The process exits with status 1.
    Ends,
}

use Outcome::{Ends, Restarts};

/// The parts of `serve`.
const PARTS: [(&str, Outcome); 22] = [
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
    ("http server", Ends),
    ("http worker", Ends),
    ("heartbeat", Ends),
    ("users-read", Restarts),
    ("sessions-read", Restarts),
    ("chat-read", Restarts),
    ("presence client", Restarts),
    ("report", Restarts),
    ("revocation", Restarts),
    ("session cache", Restarts),
    ("upkeep", Restarts),
    ("readiness log", Restarts),
];

/// How many servers run at the same time.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_panics_restarts_or_ends_the_process() {
    for parts in PARTS.chunks(AT_ONCE) {
        join_all(parts.iter().map(|(part, outcome)| check_part(part, *outcome))).await;
    }
}

async fn check_part(part: &str, outcome: Outcome) {
    let mut server = TestServer::start().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    let mut acked = vec![alice.send_message("before").await["id"].clone()];
    if !server.system.inject_fault(0, part).await {
        return;
    }
    let spent = async {
        for number in 0.. {
            use_every_part(&server, &mut alice, number, &mut acked).await;
            if server.system.has_panicked(0, part).await {
                return;
            }
        }
    };
    timeout(2 * TIMEOUT, spent).await.unwrap_or_else(|_| panic!("{part}: the fault was not reached"));
    if outcome == Ends {
        let status = server.system.wait_for_exit(0).await;
        assert_eq!(status.code(), Some(1), "{part}: {}", server.system.log());
        server.system.restart().await;
        (alice, bob) = (reconnect(alice.user).await, reconnect(bob.user).await);
    }
    server.system.wait_until_ready().await;
    acked.push(alice.send_message("after").await["id"].clone());
    bob.receive_message("after").await;
    wait_until_online(&bob.user, &["alice", "bob"]).await;
    alice.user.log_out().await;
    alice.closed().await;
    wait_until_online(&bob.user, &["bob"]).await;
    let stored = bob.user.read_history("lobby").await;
    for (message, seq) in stored.iter().zip(1..) {
        assert_eq!(message["seq"], seq, "{part}: {stored:?}");
    }
    for id in acked {
        assert!(stored.iter().any(|message| message["id"] == id), "{part}: {id} is lost");
    }
}

#[tokio::test]
async fn a_request_that_panics_is_answered_with_500_and_counted() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    server.system.check_panic_responses(0).await;
    alice.send_message("still served").await;
    bob.receive_message("still served").await;
}

/// Gives every part something to do. Failures are ignored: the injected fault causes them.
async fn use_every_part(
    server: &TestServer,
    alice: &mut ConnectedUser,
    number: usize,
    acked: &mut Vec<serde_json::Value>,
) {
    let id = alice.request("message", &json!({"room": "lobby", "text": format!("{number}")}));
    if let Ok(Some(ack)) = timeout(Duration::from_millis(500), alice.try_ack(id)).await
        && ack["ok"] == true
    {
        acked.push(ack["id"].clone());
    }
    let new_user = server.unregistered_user(&format!("user{number}"));
    let credentials = new_user.credentials();
    for target in ["/user/register", "/user/login"] {
        let request = Request::post(target, &credentials);
        let Some(answer) = request.try_send(new_user.source, new_user.server).await else { return };
        if let Some(token) = answer.token() {
            let handshake = Handshake::default().cookie(&token);
            let tab = new_user.try_connect(handshake).await;
            let logout = Request::post("/user/logout", &json!({})).cookie(&token);
            let _ = logout.try_send(new_user.source, new_user.server).await;
            drop(tab);
        }
    }
}

/// Connects the user again.
async fn reconnect(user: TestUser) -> ConnectedUser {
    let tab = user.connect().await;
    ConnectedUser::new(user, tab)
}

/// Waits until exactly these users are online.
async fn wait_until_online(user: &TestUser, names: &[&str]) {
    let online = async {
        loop {
            let answer = user.get("/presence/online").await;
            if answer.status == 200 && answer.json() == json!({"online": names}) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, online).await.unwrap_or_else(|_| panic!("{names:?} are not online"));
}

#[tokio::test]
async fn a_panic_for_one_client_closes_only_that_connection() {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let alice = server.user("alice").await;
    for part in ["session", "event", "command", "ack", "pipe", "closed", "connect", "room", "request"] {
        let mut tab = alice.connect().await;
        wait_until_online(&bob.user, &["alice", "bob"]).await;
        if !server.system.inject_fault(0, part).await {
            return;
        }
        match part {
            "closed" => drop(tab),
            "connect" => {
                let refused = alice.try_connect(alice.handshake()).await.err();
                let code = refused.and_then(|refused| match refused {
                    ConnectFailure::Ended(ending) => ending.code,
                    _ => None,
                });
                assert_eq!(code, Some(1011));
                tab.send_message("the other tab stays open").await;
                drop(tab);
            }
            "request" => {
                let history = Request::get("/rooms/lobby/messages").cookie(alice.token());
                let answer = alice.request(history).await;
                assert_eq!((answer.status, answer.header("connection")), (500, Some("close")));
                alice.read_history("lobby").await;
                tab.send_message("the tab stays open").await;
                drop(tab);
            }
            "room" => {
                let refused = tab.emit_with_ack("message", &json!({"text": "lost"})).await;
                assert_eq!(refused["code"], "unavailable", "{refused}");
                let again = json!({"text": "the room has restarted"});
                while tab.emit_with_ack("message", &again).await["ok"] != true {
                    sleep(Duration::from_millis(20)).await;
                }
                drop(tab);
            }
            _ => check_closed_by_event(&mut tab, part).await,
        }
        wait_until_online(&bob.user, &["bob"]).await;
        assert!(server.system.has_panicked(0, part).await, "{part}");
        bob.send_message(part).await;
    }
    assert_eq!(server.system.counter("godzilla_panics_total{part=\"chat\"}").await, 7);
    let stored = bob.user.read_history("lobby").await;
    for (message, seq) in stored.iter().zip(1..) {
        assert_eq!(message["seq"], seq, "{stored:?}");
    }
}

/// Sends an event, whose handler panics: the connection is closed without an ack.
async fn check_closed_by_event(tab: &mut Socket, part: &str) {
    let id = tab.request("message", &json!({"text": "any"}));
    assert_eq!(tab.try_ack(id).await, None, "{part}");
    let ending = tab.closed().await;
    assert!(!ending.left, "{part}: official clients would not reconnect");
    // A panic of the connection's task closes it without a close frame.
    assert_eq!(ending.code, (part != "pipe").then_some(1011), "{part}");
}
