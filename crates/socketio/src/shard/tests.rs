//! The shard without a network: batches, exceptions, and the heartbeat's turn.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::Actor;
use tokio::sync::Notify;

use super::*;
use crate::{
    Config, Encoded, Io, Responses, SocketId, SocketInfo, Target,
    testing::{RecordingWorker, TestSession, open_session, worker},
};

fn broadcast(rooms: &[&str], except: Option<SocketId>) -> Operation {
    Operation::Emit(Emit {
        namespace: "/".into(),
        rooms: rooms.iter().map(|room| (*room).into()).collect(),
        except,
        packet: Encoded::event("/", "n", &(), None).unwrap(),
        volatile: false,
        backpressure: None,
    })
}

/// A joined client, with what it has been sent so far already read.
async fn client(worker: &(Rc<RecordingWorker>, Arc<Notify>)) -> (TestSession, SocketId) {
    let client = open_session(worker);
    client.send("40").await;
    let sent = client.received();
    let id = sent[1].split('"').nth(3).unwrap().to_owned();
    let mut found = None;
    worker.0.local.each(&id.as_str().into(), |socket| found = Some(socket.id()));
    (client, found.expect("every socket is a room of its own"))
}

#[actix_rt::test]
async fn a_broadcast_goes_to_each_member_once_and_not_to_the_excepted() {
    let worker = worker(Config::default());
    let io = Io::new();
    io.add(Shard::new(worker.0.local.clone(), io.shard_guard()).start());
    let (alice, alice_id) = client(&worker).await;
    let (bob, bob_id) = client(&worker).await;
    let enter = |of: &SocketId, room: &str| Operation::Join { of: of.room(), room: room.into() };
    let batch = vec![
        enter(&alice_id, "a"),
        enter(&bob_id, "a"),
        enter(&bob_id, "b"),
        broadcast(&["a", "b"], None),
        broadcast(&["a"], Some(alice_id.clone())),
        Operation::Leave { of: bob_id.room(), room: "a".into() },
        broadcast(&["a"], None),
        broadcast(&[], None),
    ];
    io.send(batch).await;
    assert_eq!(alice.received().len(), 3, "both rooms, after bob left, everybody");
    assert_eq!(bob.received().len(), 3, "both rooms once, except alice, everybody");
    assert_eq!(io.count().await, 2);
}

#[actix_rt::test]
async fn a_selection_is_sent_to_found_and_asked() {
    let worker = worker(Config::default());
    let io = Io::new();
    io.add(Shard::new(worker.0.local.clone(), io.shard_guard()).start());
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
    let given = vec![crate::Response { args: vec!["yes".into()], attachments: Vec::new() }];
    assert_eq!(responses, Ok(Responses { given, missing: 1 }), "bob stays silent");
}

#[actix_rt::test]
async fn a_socket_that_has_left_knows_the_rooms_it_was_in() {
    let worker = worker(Config::default());
    let (alice, alice_id) = client(&worker).await;
    let mut found = None;
    worker.0.local.each(&alice_id.room(), |socket| found = Some(socket.clone()));
    let socket = found.unwrap();
    socket.join(&"!".into());
    alice.send("41").await;
    assert_eq!(socket.rooms(), ["!".into(), alice_id.room()]);
    assert!(!socket.is_in(&"!".into()));
}

#[actix_rt::test]
async fn a_dismissed_client_is_told_and_its_connection_lives() {
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
async fn an_expelled_client_is_told_in_every_namespace_it_is_in() {
    let worker = worker(Config::default());
    let (alice, alice_id) = client(&worker).await;
    alice.send("40/other").await;
    alice.send("40/waiting,{\"wait\":1}").await;
    assert_eq!(alice.received().len(), 1, "the response of the other namespace");
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
async fn a_full_outbox_ends_that_session_alone() {
    let worker = worker(Config { send_queue_frames: 2, ..Config::default() });
    let (alice, _) = client(&worker).await;
    let (bob, _) = client(&worker).await;
    for _ in 0..3 {
        apply(&worker.0.local, &broadcast(&[], None), &mut LaggingClients::default());
        assert_eq!(alice.received().len(), 1);
    }
    bob.send("3").await;
    assert_eq!(*bob.events.borrow(), ["connected", "closed: slow"]);
    assert_eq!(*alice.events.borrow(), ["connected"]);
    assert_eq!(worker.0.local.count(), 1);
}

#[actix_rt::test]
async fn the_wheel_pings_and_then_gives_up() {
    let beat = Duration::from_millis(100);
    let worker = worker(Config { ping_interval: beat, ping_timeout: beat, ..Config::default() });
    let (alice, _) = client(&worker).await;
    let shard = Shard::new(worker.0.local.clone(), Io::new().shard_guard()).start();
    let mut pinged = false;
    while alice.session.connected() {
        pinged |= alice.received().contains(&"2".to_owned());
        tokio::task::yield_now().await;
    }
    assert!(pinged);
    assert_eq!(*alice.events.borrow(), ["connected", "closed: ping timeout"]);
    drop(shard);
}
