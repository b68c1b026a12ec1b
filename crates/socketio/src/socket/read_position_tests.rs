//! Where in the log a client is that has left: known only when nothing was waiting for it.

use super::*;
use crate::{
    CloseReason, Config, Encoded,
    testing::{TestSession, open_session, worker},
};

fn entry(position: u64) -> Encoded {
    Encoded::event("/", "input", &(), None).unwrap().at(position)
}

async fn joined() -> (TestSession, Socket) {
    let client = open_session(&worker(Config::default()));
    client.send("40").await;
    let mut joined = None;
    client.worker.local.table("/", |table| table.select(&[], |_, socket| joined = Some(socket.clone())));
    (client, joined.expect("it has joined"))
}

#[actix_rt::test]
async fn a_client_that_closed_with_all_of_the_log_taken_is_where_that_ended() {
    let (client, socket) = joined().await;
    socket.send(&entry(3));
    socket.send(&entry(4));
    assert_eq!(socket.read_position(), ReadPosition::Unknown, "it is still there");
    client.received();
    socket.emit(&Encoded::event("/", "of no log", &(), None).unwrap());
    client.connection.end(CloseReason::TransportClose);
    assert_eq!(socket.read_position(), ReadPosition::At(4));
}

#[actix_rt::test]
async fn a_client_that_was_sent_nothing_of_the_log_is_where_it_started() {
    let (client, socket) = joined().await;
    client.connection.end(CloseReason::TransportClose);
    assert_eq!(socket.read_position(), ReadPosition::Start);
}

#[actix_rt::test]
async fn nobody_knows_where_a_client_is_for_which_something_waited() {
    let (client, socket) = joined().await;
    socket.send(&entry(3));
    client.received();
    socket.send(&entry(4));
    client.connection.end(CloseReason::TransportClose);
    assert_eq!(socket.read_position(), ReadPosition::Unknown);
    client.received();
    assert_eq!(socket.read_position(), ReadPosition::At(4), "and now nothing does");
}

#[actix_rt::test]
async fn nobody_knows_where_a_client_is_that_did_not_close_the_connection() {
    let (client, socket) = joined().await;
    socket.send(&entry(3));
    client.received();
    client.connection.end(CloseReason::PingTimeout);
    assert_eq!(socket.read_position(), ReadPosition::Unknown);
}
