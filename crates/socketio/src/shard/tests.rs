//! The shard without a network: batches, exceptions, and heartbeats.

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::*;
use crate::{
    Config, Encoded, Io, Responses, SocketId, SocketInfo, Target,
    testing::{RecordingWorker, TestSession, open_session, worker},
};

fn emit(rooms: &[&str], except: Option<SocketId>) -> Operation {
    Operation::Emit(Emit {
        namespace: "/".into(),
        rooms: rooms.iter().map(|room| (*room).into()).collect(),
        except,
        packet: Encoded::event("/", "n", &(), None).unwrap(),
        volatile: false,
        backpressure: None,
    })
}

/// A joined client. What it has received so far is discarded.
async fn client(worker: &(Rc<RecordingWorker>, Arc<Notify>)) -> (TestSession, SocketId) {
    let client = open_session(worker);
    client.send("40").await;
    let sent = client.received();
    let id = sent[1].split('"').nth(3).unwrap().to_owned();
    let mut found = None;
    worker.0.local.each(&id.as_str().into(), |socket| found = Some(socket.id()));
    (client, found.expect("every socket is in the room of its id"))
}

#[actix_rt::test]
async fn an_emit_reaches_each_member_once_and_not_the_excepted_socket() {
    let worker = worker(Config::default());
    let io = Io::new();
    io.add(worker.0.local.clone());
    let (alice, alice_id) = client(&worker).await;
    let (bob, bob_id) = client(&worker).await;
    let join_room = |of: &SocketId, room: &str| Operation::Join { of: of.room(), room: room.into() };
    let batch = vec![
        join_room(&alice_id, "a"),
        join_room(&bob_id, "a"),
        join_room(&bob_id, "b"),
        emit(&["a", "b"], None),
        emit(&["a"], Some(alice_id.clone())),
        Operation::Leave { of: bob_id.room(), room: "a".into() },
        emit(&["a"], None),
        emit(&[], None),
    ];
    io.send(batch).await;
    assert_eq!(alice.received().len(), 3, "both rooms, after bob left, the whole namespace");
    assert_eq!(bob.received().len(), 3, "both rooms once, except alice, the whole namespace");
    assert_eq!(io.count().await, 2);
}

#[actix_rt::test]
async fn a_target_is_sent_to_fetched_and_queried() {
    let worker = worker(Config::default());
    let io = Io::new();
    io.add(worker.0.local.clone());
    let (alice, alice_id) = client(&worker).await;
    let (bob, bob_id) = client(&worker).await;
    let to = Target::room("/", "a".into()).except(bob_id.room());
    let join = |of: &SocketId| Operation::Join { of: of.room(), room: "a".into() };
    let packet = Encoded::event("/", "n", &(), None).unwrap();
    let send = Operation::Send { to: to.clone(), packet, volatile: false };
    io.send(vec![join(&alice_id), join(&bob_id), send]).await;
    assert_eq!((alice.received().len(), bob.received().len()), (1, 0));

    let found = io.fetch(to.clone()).await;
    let mut rooms = vec![alice_id.room(), "a".into()];
    rooms.sort_unstable();
    assert_eq!(found, [SocketInfo { id: alice_id, rooms }]);
    assert_eq!(io.fetch(Target::all("/")).await.len(), 2);
    assert_eq!(io.fetch(Target::all("/other")).await, []);

    let asked = io.emit_with_ack(Target::all("/"), "q", &(7,), Duration::from_millis(100));
    let answered = async {
        while alice.received() != ["420[\"q\",7]"] {
            tokio::task::yield_now().await;
        }
        alice.send("430[\"yes\"]").await;
    };
    let (responses, ()) = futures_util::join!(asked, answered);
    let received = vec![crate::Response { args: vec!["yes".into()], attachments: Vec::new() }];
    assert_eq!(responses, Ok(Responses { received, missing: 1 }), "bob does not answer");
}

#[actix_rt::test]
async fn disconnect_sends_a_packet_and_keeps_the_connection_open() {
    let worker = worker(Config::default());
    let (alice, alice_id) = client(&worker).await;
    apply(
        &worker.0.local,
        &Operation::Disconnect { of: alice_id.room(), close: None },
        &mut LaggingClients::default(),
    );
    alice.send("3").await;
    assert_eq!(alice.received(), ["41"]);
    assert_eq!(*alice.events.borrow(), ["connected", "closed: server namespace disconnect"]);
    assert!(alice.session.connected());
}

#[actix_rt::test]
async fn disconnect_with_close_sends_a_packet_in_every_joined_namespace() {
    let worker = worker(Config::default());
    let (alice, alice_id) = client(&worker).await;
    alice.send("40/other").await;
    alice.send("40/waiting,{\"wait\":1}").await;
    assert_eq!(alice.received().len(), 1, "the CONNECT answer of the other namespace");
    apply(
        &worker.0.local,
        &Operation::Disconnect { of: alice_id.room(), close: Some(CloseReason::ServerClose) },
        &mut LaggingClients::default(),
    );
    alice.send("3").await;
    assert_eq!(alice.received(), ["41", "41/other,", "close 1000 forced server close"]);
    assert!(!alice.session.connected());
}

#[actix_rt::test]
async fn the_wheel_pings_and_then_closes() {
    let beat = Duration::from_millis(100);
    let worker = worker(Config { ping_interval: beat, ping_timeout: beat, ..Config::default() });
    let (alice, _) = client(&worker).await;
    let io = Io::new();
    io.add(worker.0.local.clone());
    let mut pinged = false;
    while alice.session.connected() {
        pinged |= alice.received().contains(&"2".to_owned());
        tokio::task::yield_now().await;
    }
    assert!(pinged);
    assert_eq!(*alice.events.borrow(), ["connected", "closed: ping timeout"]);
}
