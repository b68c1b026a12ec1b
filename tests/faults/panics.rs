//! Parts of the roles panic while messages are sent. Needs a debug build: only debug builds have the fault points.

use std::{net::Ipv4Addr, time::Duration};

use tokio::time::{sleep, timeout};

use super::{ACCOUNTS, BETWEEN, GATEWAY, NODES, PRESENCE, traffic::Traffic};
use crate::support::{Request, TIMEOUT, TestServer};

/// A process, one of its parts, and whether a panic of the part ends the process; otherwise the part restarts.
const PARTS: [(usize, &str, bool); 27] = [
    (GATEWAY, "session watch", false),
    (GATEWAY, "session cache", false),
    (GATEWAY, "table of nodes", false),
    (GATEWAY, "upkeep", false),
    (GATEWAY, "admin server", true),
    (GATEWAY, "http worker", true),
    (GATEWAY, "heartbeat", true),
    (GATEWAY, "splice", false),
    (GATEWAY, "splice to client", false),
    (ACCOUNTS, "session watch", false),
    (ACCOUNTS, "admin server", true),
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
    (NODES[1], "node lease", false),
    (NODES[1], "http worker", true),
    (PRESENCE, "report", false),
    (PRESENCE, "heartbeat", true),
    (PRESENCE, "roster", true),
    (PRESENCE, "presence server", true),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_role_that_panics_restarts_or_ends_its_process() {
    let (mut server, traffic) = Traffic::start().await;
    for (process, part, ends) in PARTS {
        traffic.wait_for_acks(BETWEEN).await;
        if !server.system.inject_fault(process, part).await {
            break;
        }
        let spent = async {
            while !server.system.has_panicked(process, part).await {
                // An HTTP worker panics at its next connection, and accounts receives no connection by itself.
                _ = Request::get("/")
                    .try_send(Ipv4Addr::LOCALHOST, server.system.processes[process].address())
                    .await;
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TIMEOUT, spent).await.unwrap_or_else(|_| panic!("{part}: the fault was not reached"));
        if ends {
            let status = server.system.wait_for_exit(process).await;
            assert_eq!(status.code(), Some(1), "{part}: {}", server.system.log());
            server.system.restart_process(process).await;
        }
        server.system.wait_until_ready().await;
    }
    traffic.wait_for_acks(BETWEEN).await;
    traffic.verify(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_panics_is_answered_with_500_and_counted_in_every_role() {
    let server = TestServer::start_split().await;
    for process in [GATEWAY, ACCOUNTS, NODES[0], NODES[1]] {
        server.system.check_panic_responses(process).await;
    }
    let mut alice = server.connected_user("alice").await;
    alice.send_message("still served").await;
}
