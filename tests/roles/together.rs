//! `godzilla run`: several roles in one process, on real MongoDB and Redis, with the official client.

use std::{net::Ipv4Addr, time::Instant};

use serde_json::{Value, json};

use super::key_file;
use crate::support::{OfficialClient, Request, TIMEOUT, TestServer, TestUser};

/// The sets of roles of the tests: each line is one system of one or more processes. The first process has the gateway.
const SYSTEMS: [&[&str]; 3] = [
    &["gateway,accounts,chat,presence"],
    &["gateway,chat", "presence,accounts"],
    &["gateway,presence", "chat,accounts"],
];

/// Two users with connected official clients, one by WebSocket and one by polling only.
async fn clients(server: &TestServer) -> (TestUser, [OfficialClient; 2]) {
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut by_websocket = server.official_client(&alice);
    let polling = json!({"transports": ["polling"], "upgrade": false});
    let mut by_polling = OfficialClient::of("bob", server.system.address, bob.token(), &polling);
    assert_eq!(by_websocket.connect().await.transport, "websocket");
    assert_eq!(by_polling.connect().await.transport, "polling");
    (alice, [by_websocket, by_polling])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_in_one_process_serve_the_official_client_and_drain() {
    for sets in SYSTEMS {
        let mut server = TestServer::start_sets(sets).await;
        let (user, [mut alice, mut bob]) = clients(&server).await;
        let until = Instant::now() + TIMEOUT;
        while user.get("/presence/online").await.expect(200).json() != json!({"online": ["alice", "bob"]}) {
            assert!(Instant::now() < until, "{sets:?}: not online");
        }
        let mut acked = Vec::new();
        for (number, from_alice) in (0..20).map(|number| (number, number % 2 == 0)) {
            let sent = format!("message {number}");
            let (sender, receiver) = if from_alice { (&mut alice, &mut bob) } else { (&mut bob, &mut alice) };
            let ack = sender.emit_with_ack("message", json!({"text": sent})).await;
            assert_eq!(ack["ok"], true, "{sets:?}: {ack}");
            acked.push(ack["id"].clone());
            receiver.receive_message(&sent).await;
        }
        // A gateway ends before the processes that it uses.
        for index in 0..sets.len() {
            assert_eq!(server.system.stop_process(index).await.code(), Some(0), "{}", server.system.log());
        }
        alice.disconnected().await;
        bob.disconnected().await;
        let log = server.system.log();
        assert!(!log.contains("drain did not finish") && !log.contains("ERROR"), "{sets:?}: {log}");
        server.system.restart().await;
        let stored = user.read_history("lobby").await;
        let stored: Vec<&Value> = stored.iter().map(|message| &message["id"]).collect();
        assert_eq!(stored, acked.iter().collect::<Vec<_>>(), "{sets:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readyz_names_the_role_whose_store_is_unavailable() {
    let mut server = TestServer::start_sets(SYSTEMS[0]).await;
    server.system.stores.as_mut().expect("stores").mongo.kill();
    let until = Instant::now() + TIMEOUT;
    loop {
        let answer = Request::get("/readyz").send(Ipv4Addr::LOCALHOST, server.system.admin).await;
        let body = answer.json();
        let is_complete = ["accounts: MongoDB", "chat: MongoDB"]
            .iter()
            .all(|part| body["message"].as_str().is_some_and(|text| text.contains(part)));
        if answer.status == 503 && is_complete {
            return;
        }
        assert!(Instant::now() < until, "{body}");
    }
}

#[test]
fn a_process_whose_stores_are_unavailable_stops_on_sigterm() {
    let key = key_file();
    let stores = ["--mongo-uri", "mongodb://127.0.0.1:1/", "--redis-url", "redis://127.0.0.1:1"];
    let roles = ["--roles", "gateway,accounts,chat,presence", "--secret-file", &key.path().to_string_lossy()];
    let free = [
        "--accounts-listen",
        "127.0.0.1:0",
        "--chat-listen",
        "127.0.0.1:0",
        "--presence-listen",
        "127.0.0.1:0",
    ];
    let arguments = [&stores[..], &roles, &free].concat();
    let mut process = super::Role::start_unready("run", &arguments);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(process.wait_until_listening());
    process.stop_in_time();
}
