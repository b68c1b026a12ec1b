//! Parts of the roles are made to panic while people talk. Needs a debug build, which alone has the faults.

use std::{net::Ipv4Addr, time::Duration};

use tokio::time::{sleep, timeout};

use super::{ACCOUNTS, BETWEEN, GATEWAY, NODES, PRESENCE, people::People};
use crate::stage::{PATIENCE, Request, Stage, breaks_polling};

/// A process, one of its parts, and whether the process ends with the part; else the part works again.
const PARTS: [(usize, &str, bool); 31] = [
    (GATEWAY, "session watch", false),
    (GATEWAY, "known sessions", false),
    (GATEWAY, "table of nodes", false),
    (GATEWAY, "upkeep", false),
    (GATEWAY, "admin server", true),
    (GATEWAY, "admin worker", true),
    (GATEWAY, "http worker", true),
    (GATEWAY, "heartbeat", true),
    (GATEWAY, "splice", false),
    (GATEWAY, "splice to client", false),
    (ACCOUNTS, "session keeper", false),
    (ACCOUNTS, "session watch", false),
    (ACCOUNTS, "admin server", true),
    (ACCOUNTS, "durability watch", false),
    (ACCOUNTS, "http worker", true),
    (NODES[0], "log follower", true),
    (NODES[0], "log changes", true),
    (NODES[0], "log retention", false),
    (NODES[0], "log", true),
    (NODES[1], "rooms", true),
    (NODES[1], "shard", true),
    (NODES[1], "presence relay", true),
    (NODES[1], "presence client", false),
    (NODES[1], "revocation", false),
    (NODES[1], "announcement", false),
    (NODES[1], "http worker", true),
    (PRESENCE, "report", false),
    (PRESENCE, "admin worker", true),
    (PRESENCE, "heartbeat", true),
    (PRESENCE, "roster", true),
    (PRESENCE, "presence server", true),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_of_a_role_that_panics_works_again_or_ends_its_process() {
    let (mut stage, people) = People::gather().await;
    for (process, part, ends) in PARTS {
        people.talk(BETWEEN).await;
        if !stage.server.injects(process, part).await {
            break;
        }
        let spent = async {
            while !stage.server.has_panicked(process, part).await {
                // An HTTP worker panics at its next connection, and accounts has none by itself.
                _ = Request::get("/")
                    .try_send(Ipv4Addr::LOCALHOST, stage.server.processes[process].address())
                    .await;
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, spent).await.unwrap_or_else(|_| panic!("{part}: the fault was not reached"));
        if ends {
            let status = stage.server.process_ends(process).await;
            assert_eq!(status.code(), Some(1), "{part}: {}", stage.server.log());
            stage.server.process_returns(process).await;
        }
        stage.server.is_ready().await;
    }
    people.talk(BETWEEN).await;
    people.agree(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_accepts_connections_ends_its_process_with_it_in_every_role() {
    let (mut stage, people) = People::gather().await;
    for process in [GATEWAY, ACCOUNTS, NODES[0], PRESENCE] {
        // One for clients or other roles, one for operators; presence has its own way to accept calls.
        let servers = if process == PRESENCE { 1 } else { 2 };
        for server in 0..servers {
            people.talk(BETWEEN).await;
            let acceptors = stage.server.acceptors(process);
            assert_eq!(acceptors.len(), servers, "process {process}");
            let acceptor = acceptors[server].clone();
            tokio::task::spawn_blocking(move || breaks_polling(&acceptor)).await.expect("strace runs");
            let status = stage.server.process_ends(process).await;
            assert_eq!(status.code(), Some(1), "process {process}, server {server}: {}", stage.server.log());
            stage.server.process_returns(process).await;
            stage.server.is_ready().await;
        }
    }
    people.talk(BETWEEN).await;
    people.agree(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_panics_is_answered_and_counted_in_every_role() {
    let stage = Stage::opens_split().await;
    for process in [GATEWAY, ACCOUNTS, NODES[0], NODES[1], PRESENCE] {
        stage.server.answers_panics(process).await;
    }
    let mut alice = stage.enters("alice").await;
    alice.says("people talk").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_random_bytes_refuses_what_needs_them_and_goes_on() {
    let (mut stage, people) = People::gather().await;
    for process in [GATEWAY, ACCOUNTS, NODES[0], NODES[1], PRESENCE] {
        people.talk(BETWEEN).await;
        let lacks = stage.server.lacks_entropy(process).await;
        for number in 0..5 {
            let newcomer = stage.stranger(&format!("newcomer{process}{number}"));
            for target in ["/user/register", "/user/login"] {
                let request = Request::post(target, &newcomer.credentials());
                let answer = request.send(newcomer.home, newcomer.server).await;
                assert!(process == ACCOUNTS || answer.status < 300, "{process} {target}: {}", answer.body);
                assert!(process != ACCOUNTS || answer.status >= 400, "{process} {target}: {}", answer.body);
                let session = answer
                    .token()
                    .map(|token| Request::get("/socket.io/?EIO=4&transport=polling").cookie(&token));
                if let Some(session) = session {
                    let opened = session.send(newcomer.home, newcomer.server).await.status;
                    assert!([200, 503].contains(&opened), "{process}: {opened}");
                }
            }
        }
        drop(lacks);
        stage.server.is_ready().await;
    }
    people.talk(BETWEEN).await;
    people.agree(&stage).await;
    assert!(!stage.server.log().contains("panicked"), "{}", stage.server.log());
}
