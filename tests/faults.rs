//! The split system while parts of it die, hang and come back: people go on talking, repeat what was not answered as good clients
//! do, and the [`crate::checker`] finds nothing lost, doubled, reordered or invented of what was acked. And what is still
//! possible while a part is away.

mod absent;
mod drain;
mod gateways;
mod halves;
mod members;
mod parts;
mod restored;
mod traffic;
mod unpublished;
mod vanished;

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use traffic::Traffic;

use crate::support::{ACCOUNTS, GATEWAY, NODES, PRESENCE, Request, TestServer};

/// Acks that must come between two faults: then people talk again.
const BETWEEN: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_nodes_are_killed_one_after_the_other() {
    let (mut server, traffic) = Traffic::start().await;
    for round in 0..20 {
        traffic.wait_for_acks(BETWEEN).await;
        let node = NODES[round % 2];
        server.system.processes[node].kill();
        server.system.restart_process(node).await;
    }
    traffic.verify(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_node_hangs_for_half_a_minute_and_goes_on() {
    let (mut server, traffic) = Traffic::start().await;
    traffic.wait_for_acks(BETWEEN).await;
    server.system.processes[NODES[0]].signal("STOP");
    // The fault is as long as this; nothing is waited for.
    sleep(Duration::from_secs(30)).await;
    server.system.processes[NODES[0]].signal("CONT");
    server.system.wait_until_ready().await;
    traffic.wait_for_acks(BETWEEN).await;
    traffic.verify(&server).await;
}

/// The kernel of a process that is stopped acknowledges what is sent to it, so no connection breaks by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_stopped_node_send_again_through_another() {
    let server = TestServer::start_split().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut tab = alice.connect().await;
    tab.send_message("before").await;
    let open = "/socket.io/?EIO=4&transport=polling";
    let opened = alice.request(Request::get(open)).await.expect(200).body;
    let sid = opened.split('"').skip_while(|part| *part != "sid").nth(2).expect("an id").to_owned();
    let node = |id: &str| id.rsplit('.').next().expect("a node").to_owned();
    assert_eq!(node(&sid), node(&tab.session), "a user's sessions are on one node");
    let index =
        ["one", "two"].into_iter().position(|name| name == node(&sid)).expect("a name of the stage's");
    server.system.processes[NODES[index]].signal("STOP");
    let sent = json!({"text": "said once", "clientId": "one"});
    tab.request("message", &sent);
    let poll = Request::get(&format!("{open}&sid={sid}"));
    let (_, poll) = tokio::join!(tab.closed(), alice.request(poll));
    assert_eq!(poll.status, 504, "{poll:?}");
    let mut again = alice.connect().await;
    assert_ne!(node(&again.session), node(&sid));
    assert_eq!(again.emit_with_ack("message", &sent).await["ok"], true);
    server.system.processes[NODES[index]].signal("CONT");
    let texts: Vec<_> =
        bob.read_history("lobby").await.iter().map(|one| one["data"]["text"].clone()).collect();
    assert_eq!(texts, ["before", "said once"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb_steps_down_is_killed_and_hangs() {
    let (mut server, traffic) = Traffic::start().await;
    for round in 0..4 {
        traffic.wait_for_acks(BETWEEN).await;
        let mongo = &mut server.system.stores.as_mut().expect("a split system").mongo;
        match round {
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
async fn redis_is_killed_and_hangs() {
    let (mut server, traffic) = Traffic::start().await;
    for round in 0..4 {
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
async fn presence_accounts_and_gateway_are_killed() {
    let (mut server, traffic) = Traffic::start().await;
    for process in [PRESENCE, GATEWAY, ACCOUNTS, PRESENCE, GATEWAY] {
        traffic.wait_for_acks(BETWEEN).await;
        server.system.processes[process].kill();
        server.system.restart_process(process).await;
    }
    traffic.wait_for_acks(BETWEEN).await;
    traffic.verify(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_restarted_twice_one_after_the_other() {
    let (mut server, traffic) = Traffic::start().await;
    for process in [PRESENCE, NODES[0], NODES[1], ACCOUNTS, GATEWAY].repeat(2) {
        traffic.wait_for_acks(BETWEEN).await;
        let status = server.system.stop_process(process).await;
        assert_eq!(status.code(), Some(0), "process {process}");
        server.system.restart_process(process).await;
    }
    traffic.wait_for_acks(BETWEEN).await;
    traffic.verify(&server).await;
}
