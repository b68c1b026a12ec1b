//! The shard without a network: batches, exceptions, and the heartbeat's turn.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::Actor;
use tokio::sync::Notify;

use super::*;
use crate::{
    Answers, Bus, Config, Encoded, Found, Selection, SocketId,
    testing::{RecorderWorker, Stage, stage, worker},
};

fn broadcast(rooms: &[&str], except: Option<SocketId>) -> Fanout {
    Fanout::Emit(Broadcast {
        namespace: "/".into(),
        rooms: rooms.iter().map(|room| (*room).into()).collect(),
        except,
        packet: Encoded::event("/", "n", &(), None).unwrap(),
        volatile: false,
        pacer: None,
    })
}

/// A joined client, with what it has been sent so far already read.
async fn client(worker: &(Rc<RecorderWorker>, Arc<Notify>)) -> (Stage, SocketId) {
    let stage = stage(worker);
    stage.says("40").await;
    let sent = stage.sent();
    let id = sent[1].split('"').nth(3).unwrap().to_owned();
    let mut found = None;
    worker.0.local.each(&id.as_str().into(), |socket| found = Some(socket.id()));
    (stage, found.expect("every socket is a room of its own"))
}

#[actix_rt::test]
async fn a_broadcast_goes_to_each_member_once_and_not_to_the_excepted() {
    let worker = worker(Config::default());
    let bus = Bus::new();
    bus.add(Shard::new(worker.0.local.clone(), bus.alive()).start());
    let (alice, alice_id) = client(&worker).await;
    let (bob, bob_id) = client(&worker).await;
    let enter = |of: &SocketId, room: &str| Fanout::Join { of: of.room(), room: room.into() };
    let batch = vec![
        enter(&alice_id, "a"),
        enter(&bob_id, "a"),
        enter(&bob_id, "b"),
        broadcast(&["a", "b"], None),
        broadcast(&["a"], Some(alice_id.clone())),
        Fanout::Leave { of: bob_id.room(), room: "a".into() },
        broadcast(&["a"], None),
        broadcast(&[], None),
    ];
    bus.send(batch).await;
    assert_eq!(alice.sent().len(), 3, "both rooms, after bob left, everybody");
    assert_eq!(bob.sent().len(), 3, "both rooms once, except alice, everybody");
    assert_eq!(bus.count().await, 2);
}

#[actix_rt::test]
async fn a_selection_is_sent_to_found_and_asked() {
    let worker = worker(Config::default());
    let bus = Bus::new();
    bus.add(Shard::new(worker.0.local.clone(), bus.alive()).start());
    let (alice, alice_id) = client(&worker).await;
    let (bob, bob_id) = client(&worker).await;
    let to = Selection::room("/", "a".into()).except(bob_id.room());
    let join = |of: &SocketId| Fanout::Join { of: of.room(), room: "a".into() };
    let packet = Encoded::event("/", "n", &(), None).unwrap();
    let send = Fanout::Send { to: to.clone(), packet, volatile: false };
    bus.send(vec![join(&alice_id), join(&bob_id), send]).await;
    assert_eq!((alice.sent().len(), bob.sent().len()), (1, 0));

    let found = bus.fetch(to.clone()).await;
    let mut rooms = vec![alice_id.room(), "a".into()];
    rooms.sort_unstable();
    assert_eq!(found, [Found { id: alice_id, rooms }]);
    assert_eq!(bus.fetch(Selection::all("/")).await.len(), 2);
    assert_eq!(bus.fetch(Selection::all("/other")).await, []);

    let asked = bus.emit_with_ack(Selection::all("/"), "q", &(7,), Duration::from_millis(100));
    let answered = async {
        while alice.sent() != ["420[\"q\",7]"] {
            tokio::task::yield_now().await;
        }
        alice.says("430[\"yes\"]").await;
    };
    let (answers, ()) = futures_util::join!(asked, answered);
    let given = vec![crate::Answer { args: vec!["yes".into()], attachments: Vec::new() }];
    assert_eq!(answers, Ok(Answers { given, missing: 1 }), "bob stays silent");
}

#[actix_rt::test]
async fn a_socket_that_has_left_knows_the_rooms_it_was_in() {
    let worker = worker(Config::default());
    let (alice, alice_id) = client(&worker).await;
    let mut found = None;
    worker.0.local.each(&alice_id.room(), |socket| found = Some(socket.clone()));
    let socket = found.unwrap();
    socket.join(&"!".into());
    alice.says("41").await;
    assert_eq!(socket.rooms(), ["!".into(), alice_id.room()]);
    assert!(!socket.is_in(&"!".into()));
}

#[actix_rt::test]
async fn a_dismissed_client_is_told_and_its_connection_lives() {
    let worker = worker(Config::default());
    let (alice, alice_id) = client(&worker).await;
    carry(&worker.0.local, &Fanout::Dismiss { of: alice_id.room() }, &mut Crowd::default());
    alice.says("3").await;
    assert_eq!(alice.sent(), ["41"]);
    assert_eq!(*alice.diary.borrow(), ["connected", "closed: server namespace disconnect"]);
    assert!(alice.session.connected());
}

#[actix_rt::test]
async fn an_expelled_client_is_told_in_every_namespace_it_is_in() {
    let worker = worker(Config::default());
    let (alice, alice_id) = client(&worker).await;
    alice.says("40/other").await;
    alice.says("40/waiting,{\"wait\":1}").await;
    assert_eq!(alice.sent().len(), 1, "the answer of the other namespace");
    carry(
        &worker.0.local,
        &Fanout::Disconnect { of: alice_id.room(), reason: CloseReason::ServerClose },
        &mut Crowd::default(),
    );
    alice.says("3").await;
    assert_eq!(alice.sent(), ["41", "41/other,", "close 1000 forced server close"]);
    assert!(!alice.session.connected());
}

#[actix_rt::test]
async fn a_full_outbox_ends_that_session_alone() {
    let worker = worker(Config { outbox_frames: 2, ..Config::default() });
    let (alice, _) = client(&worker).await;
    let (bob, _) = client(&worker).await;
    for _ in 0..3 {
        carry(&worker.0.local, &broadcast(&[], None), &mut Crowd::default());
        assert_eq!(alice.sent().len(), 1);
    }
    bob.says("3").await;
    assert_eq!(*bob.diary.borrow(), ["connected", "closed: slow"]);
    assert_eq!(*alice.diary.borrow(), ["connected"]);
    assert_eq!(worker.0.local.count(), 1);
}

#[actix_rt::test]
async fn the_wheel_pings_and_then_gives_up() {
    let beat = Duration::from_millis(100);
    let worker = worker(Config { ping_interval: beat, ping_timeout: beat, ..Config::default() });
    let (alice, _) = client(&worker).await;
    let shard = Shard::new(worker.0.local.clone(), Bus::new().alive()).start();
    let mut pinged = false;
    while alice.session.connected() {
        pinged |= alice.sent().contains(&"2".to_owned());
        tokio::task::yield_now().await;
    }
    assert!(pinged);
    assert_eq!(*alice.diary.borrow(), ["connected", "closed: ping timeout"]);
    drop(shard);
}
