//! The split system while its parts are killed, suspended and restarted: clients resend what was not acked, and [`crate::checker`] finds no
//! acked message lost, duplicated, reordered or invented. Also: which operations work while a part is unavailable.

mod drain;
mod gateways;
mod outages;
mod traffic;

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use traffic::Traffic;

use crate::support::{ACCOUNTS, GATEWAY, NODES, PRESENCE, Request, TestServer, scale};

/// The number of acks between two faults.
const BETWEEN: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_survive_kills_of_chat_nodes() {
    let (mut server, traffic) = Traffic::start().await;
    for round in 0..scale(4, 30) {
        traffic.wait_for_acks(BETWEEN).await;
        let node = NODES[round % 2];
        server.system.processes[node].kill();
        server.system.restart_process(node).await;
    }
    traffic.verify(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_survive_a_suspension_of_a_chat_node() {
    let (mut server, traffic) = Traffic::start().await;
    traffic.wait_for_acks(BETWEEN).await;
    server.system.processes[NODES[0]].signal("STOP");
    // The duration of the fault.
    sleep(Duration::from_secs(scale(15, 60) as u64)).await;
    server.system.processes[NODES[0]].signal("CONT");
    server.system.wait_until_ready().await;
    traffic.wait_for_acks(BETWEEN).await;
    traffic.verify(&server).await;
}

/// The kernel acknowledges what is sent to a suspended process, so no connection breaks by itself: the client's heartbeat does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_suspended_node_resend_through_another_node() {
    let server = TestServer::start_split().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut tab = server.official_client(&alice);
    tab.connect().await;
    let open = "/socket.io/?EIO=4&transport=polling";
    let node = async || {
        let opened = alice.request(Request::get(open)).await.expect(200).body;
        let sid = opened.split('"').skip_while(|part| *part != "sid").nth(2).expect("an id").to_owned();
        sid.rsplit_once('.').expect("a node").1.to_owned()
    };
    let before = node().await;
    let index = ["one", "two"].into_iter().position(|name| name == before).expect("a node of the system");
    server.system.processes[NODES[index]].signal("STOP");
    assert_eq!(tab.disconnected().await, "ping timeout");
    assert!(!tab.connected().await.id.is_empty());
    assert_ne!(node().await, before);
    assert_eq!(tab.emit_with_ack("message", json!({"text": "sent once"})).await["ok"], true);
    server.system.processes[NODES[index]].signal("CONT");
    let texts: Vec<_> =
        bob.read_history("lobby").await.iter().map(|one| one["data"]["text"].clone()).collect();
    assert_eq!(texts, ["sent once"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_survive_step_down_kill_and_suspension_of_mongodb() {
    let (mut server, traffic) = Traffic::start().await;
    for round in 0..scale(4, 16) {
        traffic.wait_for_acks(BETWEEN).await;
        let mongo = &mut server.system.stores.as_mut().expect("a split system").mongo;
        match round % 4 {
            0 | 2 => mongo.step_down().await,
            1 => {
                mongo.kill();
                mongo.restart().await;
            }
            _ => {
                mongo.pause();
                sleep(Duration::from_secs(6)).await;
                mongo.resume();
            }
        }
    }
    traffic.wait_for_acks(BETWEEN).await;
    traffic.verify(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_survive_kills_and_suspensions_of_redis() {
    let (mut server, traffic) = Traffic::start().await;
    for round in 0..scale(2, 12) {
        traffic.wait_for_acks(BETWEEN).await;
        let redis = &mut server.system.stores.as_mut().expect("a split system").redis;
        if round % 2 == 0 {
            redis.kill();
            sleep(Duration::from_secs(2)).await;
            redis.restart();
        } else {
            redis.pause();
            sleep(Duration::from_secs(4)).await;
            redis.resume();
        }
        server.system.wait_until_ready().await;
    }
    traffic.wait_for_acks(BETWEEN).await;
    traffic.verify(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_survive_kills_of_presence_gateway_and_accounts() {
    let (mut server, traffic) = Traffic::start().await;
    for process in [PRESENCE, GATEWAY, ACCOUNTS].repeat(scale(1, 6)) {
        traffic.wait_for_acks(BETWEEN).await;
        server.system.processes[process].kill();
        server.system.restart_process(process).await;
    }
    traffic.wait_for_acks(BETWEEN).await;
    traffic.verify(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_survive_rolling_restarts_of_all_processes() {
    let (mut server, traffic) = Traffic::start().await;
    for process in [PRESENCE, NODES[0], NODES[1], ACCOUNTS, GATEWAY].repeat(scale(1, 6)) {
        traffic.wait_for_acks(BETWEEN).await;
        let status = server.system.stop_process(process).await;
        assert_eq!(status.code(), Some(0), "process {process}");
        server.system.restart_process(process).await;
    }
    traffic.wait_for_acks(BETWEEN).await;
    traffic.verify(&server).await;
}
