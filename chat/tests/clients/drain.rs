//! A node that stops: it takes what each socket sends until that socket is closed, and answers it before.

use std::{collections::HashSet, time::Duration};

use chat::Config;
use serde_json::{Value, json};
use socketio::CloseReason;

use crate::parlor::{Client, Parlor};

/// Sockets that talk.
const TALKERS: usize = 8;

/// Talks until the connection ends; the places of what was acked, and what was refused.
async fn talk(mut client: Client) -> (Vec<u64>, Vec<Value>) {
    let (mut places, mut refused) = (Vec::new(), Vec::new());
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
                None => return (places, refused),
            }
        };
        let ack: Value = serde_json::from_str(&ack[prefix.len() - 1..]).expect("an ack is JSON");
        match ack[0]["seq"].as_u64() {
            Some(seq) => places.push(seq),
            None => refused.push(ack),
        }
    }
    (places, refused)
}

#[actix_rt::test]
async fn sends_are_taken_until_each_socket_is_closed_and_what_is_acked_is_stored() {
    let config = Config { message_rate: 10_000, message_burst: 10_000, ..Config::default() };
    let parlor = Parlor::with(config).await;
    let mut talkers = Vec::new();
    for n in 0..TALKERS {
        let client = parlor.client(&format!("u{n}")).await;
        talkers.push(actix_rt::spawn(talk(client)));
    }
    let mut watcher = parlor.client("watcher").await;
    watcher.hears().await;
    parlor.chat.stop_connects();
    let (_, before) = parlor.http("u0", "GET", "/rooms/lobby/messages?limit=1", Value::Null).await;
    let before = before["messages"][0]["seq"].as_u64().unwrap();
    let close = parlor.io.close_all(CloseReason::ShuttingDown, 4, Duration::from_millis(50));
    let (said, ()) = tokio::join!(
        parlor.http("u0", "POST", "/rooms/lobby/messages", json!({"text": "over HTTP too"})),
        close
    );
    assert_eq!(said.0, 201);
    let (mut acked, mut last) = (HashSet::new(), 0);
    for talker in talkers {
        let (places, refused) = talker.await.unwrap();
        assert_eq!(refused, Vec::<Value>::new());
        last = last.max(places.last().copied().unwrap_or(0));
        acked.extend(places);
    }
    assert!(last > before, "sends were taken while the node was closing: {last} after {before}");
    parlor.chat.drain().await;
    let (mut stored, mut path) = (HashSet::new(), "/rooms/lobby/messages?limit=100".to_owned());
    loop {
        let (_, page) = parlor.http("u0", "GET", &path, Value::Null).await;
        stored.extend(page["messages"].as_array().unwrap().iter().filter_map(|m| m["seq"].as_u64()));
        let Some(next) = page["next"].as_u64() else { break };
        path = format!("/rooms/lobby/messages?limit=100&before={next}");
    }
    assert!(acked.is_subset(&stored), "acked and not stored");
}
