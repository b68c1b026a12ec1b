//! The read position of a client that has left: determined only if nothing was queued.

use super::*;
use crate::{
    CloseReason, Config, Encoded,
    testing::{TestSession, open_session, worker},
};

fn entry(position: u64) -> Encoded {
    Encoded::event("/", "message", &(), None).unwrap().at(position)
}

async fn joined() -> (TestSession, Socket) {
    let client = open_session(&worker(Config::default()));
    client.send("40").await;
    let mut joined = None;
    client.worker.local.table("/", |table| table.select(&[], |_, socket| joined = Some(socket.clone())));
    (client, joined.expect("it has joined"))
}

#[actix_rt::test]
async fn a_client_that_closed_with_an_empty_queue_is_at_the_last_position() {
    let (client, socket) = joined().await;
    socket.send(&entry(3));
    socket.send(&entry(4));
    assert_eq!(socket.read_position(), ReadPosition::Unknown, "the connection is open");
    client.received();
    socket.emit(&Encoded::event("/", "without position", &(), None).unwrap());
    client.connection.end(CloseReason::TransportClose);
    assert_eq!(socket.read_position(), ReadPosition::At(4));
}

#[actix_rt::test]
async fn the_position_is_unknown_while_events_are_queued() {
    let (client, socket) = joined().await;
    socket.send(&entry(3));
    client.received();
    socket.send(&entry(4));
    client.connection.end(CloseReason::TransportClose);
    assert_eq!(socket.read_position(), ReadPosition::Unknown);
    client.received();
    assert_eq!(socket.read_position(), ReadPosition::At(4), "the queue is empty now");
}

#[actix_rt::test]
async fn the_position_is_unknown_if_the_client_did_not_close_the_connection() {
    let (client, socket) = joined().await;
    socket.send(&entry(3));
    client.received();
    client.connection.end(CloseReason::PingTimeout);
    assert_eq!(socket.read_position(), ReadPosition::Unknown);
}
