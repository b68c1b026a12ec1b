//! Shutdown of a node: each socket is served until it is closed, and its accepted events are answered before.

use std::{collections::HashSet, time::Duration};

use chat::Config;
use serde_json::{Value, json};
use socketio::CloseReason;

use crate::support::{Client, TestChat};

/// The number of clients that send messages.
const SENDERS: usize = 8;

/// Sends messages until the connection ends. Returns the `seq` of every acked message, and the refusals.
async fn send_messages(mut client: Client) -> (Vec<u64>, Vec<Value>) {
    let (mut seqs, mut refused) = (Vec::new(), Vec::new());
    for n in 0.. {
        let packet = format!("42{n}{}", json!(["message", {"text": n.to_string()}]));
        if client.try_send(&packet).await.is_err() {
            break;
        }
        let prefix = format!("43{n}[");
        let ack = loop {
            match client.next().await {
                Some(packet) if packet.starts_with(&prefix) => break packet,
                Some(_) => {}
                None => return (seqs, refused),
            }
        };
        let ack: Value = serde_json::from_str(&ack[prefix.len() - 1..]).expect("an ack is JSON");
        match ack[0]["seq"].as_u64() {
            Some(seq) => seqs.push(seq),
            None => refused.push(ack),
        }
    }
    (seqs, refused)
}

#[actix_rt::test]
async fn events_are_accepted_until_each_socket_is_closed_and_acked_messages_are_stored() {
    let config = Config { message_rate: 10_000, message_burst: 10_000, ..Config::default() };
    let server = TestChat::with(config).await;
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        let client = server.client(&format!("u{n}")).await;
        senders.push(actix_rt::spawn(send_messages(client)));
    }
    let mut watcher = server.client("watcher").await;
    watcher.message_text().await;
    server.chat.stop_connects();
    let (_, before) = server.http("u0", "GET", "/rooms/lobby/messages?limit=1", Value::Null).await;
    let before = before["messages"][0]["seq"].as_u64().unwrap();
    let close = server.io.close_all(CloseReason::ShuttingDown, 4, Duration::from_millis(50));
    let (posted, ()) = tokio::join!(
        server.http("u0", "POST", "/rooms/lobby/messages", json!({"text": "over HTTP too"})),
        close
    );
    assert_eq!(posted.0, 201);
    let (mut acked, mut last) = (HashSet::new(), 0);
    for sender in senders {
        let (seqs, refused) = sender.await.unwrap();
        assert_eq!(refused, Vec::<Value>::new());
        last = last.max(seqs.last().copied().unwrap_or(0));
        acked.extend(seqs);
    }
    assert!(last > before, "no messages were accepted while the sockets were closed: {last} after {before}");
    server.chat.drain().await;
    let (mut stored, mut path) = (HashSet::new(), "/rooms/lobby/messages?limit=100".to_owned());
    loop {
        let (_, page) = server.http("u0", "GET", &path, Value::Null).await;
        stored.extend(page["messages"].as_array().unwrap().iter().filter_map(|m| m["seq"].as_u64()));
        let Some(next) = page["next"].as_u64() else { break };
        path = format!("/rooms/lobby/messages?limit=100&before={next}");
    }
    assert!(acked.is_subset(&stored), "an acked message is not stored");
}
