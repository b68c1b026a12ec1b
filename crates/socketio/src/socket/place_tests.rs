//! Where in the log a client is that has left: known only when nothing was waiting for it.

use super::*;
use crate::{
    CloseReason, Config, Encoded,
    testing::{Stage, stage, worker},
};

fn entry(position: u64) -> Encoded {
    Encoded::event("/", "said", &(), None).unwrap().at(position)
}

async fn joined() -> (Stage, Socket) {
    let stage = stage(&worker(Config::default()));
    stage.says("40").await;
    let mut joined = None;
    stage.worker.local.table("/", |table| table.select(&[], |_, socket| joined = Some(socket.clone())));
    (stage, joined.expect("it has joined"))
}

#[actix_rt::test]
async fn a_client_that_closed_with_all_of_the_log_taken_is_where_that_ended() {
    let (stage, socket) = joined().await;
    socket.send(&entry(3));
    socket.send(&entry(4));
    assert_eq!(socket.place(), Place::Unknown, "it is still there");
    stage.sent();
    socket.emit(&Encoded::event("/", "of no log", &(), None).unwrap());
    stage.link.end(CloseReason::TransportClose);
    assert_eq!(socket.place(), Place::At(4));
}

#[actix_rt::test]
async fn a_client_that_was_sent_nothing_of_the_log_is_where_it_started() {
    let (stage, socket) = joined().await;
    stage.link.end(CloseReason::TransportClose);
    assert_eq!(socket.place(), Place::Start);
}

#[actix_rt::test]
async fn nobody_knows_where_a_client_is_for_which_something_waited() {
    let (stage, socket) = joined().await;
    socket.send(&entry(3));
    stage.sent();
    socket.send(&entry(4));
    stage.link.end(CloseReason::TransportClose);
    assert_eq!(socket.place(), Place::Unknown);
    stage.sent();
    assert_eq!(socket.place(), Place::At(4), "and now nothing does");
}

#[actix_rt::test]
async fn nobody_knows_where_a_client_is_that_did_not_close_the_connection() {
    let (stage, socket) = joined().await;
    socket.send(&entry(3));
    stage.sent();
    stage.link.end(CloseReason::PingTimeout);
    assert_eq!(socket.place(), Place::Unknown);
}
