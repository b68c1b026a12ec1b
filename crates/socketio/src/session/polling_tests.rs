//! A long-polling session without a network: GETs during an upgrade and at the end.

use std::sync::Arc;

use actix::Addr;

use super::*;
use crate::{
    Config, Encoded,
    connection::{
        Connection,
        send_queue::{Limits, SendQueue},
    },
    namespaces::Namespaces,
    session::{Admitted, Inbound, PipeInput, transport_state::PipeId, upgrade::Probe},
    tcp::TcpHandle,
    testing::{EventLog, RecordingApp, worker},
};

const PIPE: PipeId = PipeId(7);

type Polled = Session<Namespaces<RecordingApp>>;

/// A session that has joined the main namespace. What it has received so far is discarded.
async fn joined() -> (Addr<Polled>, std::rc::Rc<Connection>) {
    let (worker, _) = worker(Config::default());
    let (session, connection) = Session::open(
        &worker,
        TransportState::POLLING,
        TcpHandle::new(None),
        Admitted { sid: worker.new_sid().unwrap(), admission: EventLog::default(), owner: None, head: None },
    );
    assert!(poll(&session).await.unwrap().starts_with("0{"));
    assert_eq!(session.send(Post("40".into())).await.unwrap(), Ok(()));
    assert!(poll(&session).await.unwrap().starts_with("40{"));
    (session, connection)
}

async fn get(session: &Addr<Polled>) -> PollBody {
    session.send(Get(None)).await.unwrap().unwrap()
}

async fn poll(session: &Addr<Polled>) -> Result<String, TransportConflict> {
    get(session).await.await.expect("there is an answer")
}

async fn probe(session: &Addr<Polled>) {
    let send_queue = Arc::new(SendQueue::new(Limits::new(&Config::default())));
    let probe = Probe { pipe: PIPE, send_queue, tcp: TcpHandle::new(None), head: None };
    assert_eq!(session.send(probe).await.unwrap(), Ok(()));
}

async fn send_text(session: &Addr<Polled>, text: &'static str) {
    session.send(Inbound { pipe: PIPE, input: PipeInput::Text(text.into()), permit: None }).await.unwrap();
}

#[actix_rt::test]
async fn a_get_that_waited_before_the_probe_is_released_by_it() {
    let (session, _link) = joined().await;
    let waiting = get(&session).await;
    probe(&session).await;
    send_text(&session, "2probe").await;
    assert_eq!(waiting.await.unwrap(), Ok("6".to_owned()));
}

#[actix_rt::test]
async fn a_get_that_overtakes_the_upgrade_uses_the_wrong_transport() {
    for sent_before in [&[][..], &["2probe"]] {
        let (session, _link) = joined().await;
        probe(&session).await;
        for text in sent_before {
            send_text(&session, text).await;
        }
        let late = get(&session).await;
        send_text(&session, "2probe").await;
        send_text(&session, "5").await;
        assert_eq!(late.await.unwrap(), Err(TransportConflict::WrongTransport));
    }
}

#[actix_rt::test]
async fn the_close_packet_is_sent_alone_after_the_queued_packets() {
    let (session, connection) = joined().await;
    assert_eq!(session.send(Post("421[\"a\"]".into())).await.unwrap(), Ok(()));
    connection.end_namespaces(CloseReason::ServerClose);
    assert_eq!(poll(&session).await, Ok("431[\"a\"]\x1e41".to_owned()));
    assert_eq!(poll(&session).await, Ok("1".to_owned()));
    assert!(!session.connected());
}

#[actix_rt::test]
async fn a_request_to_an_overdue_session_ends_it() {
    let none = std::time::Duration::ZERO;
    let (worker, _) = worker(Config { ping_interval: none, ping_timeout: none, ..Config::default() });
    let (session, _link) = Session::open(
        &worker,
        TransportState::POLLING,
        TcpHandle::new(None),
        Admitted { sid: worker.new_sid().unwrap(), admission: EventLog::default(), owner: None, head: None },
    );
    assert!(
        poll(&session).await.unwrap().ends_with("\x1e2"),
        "the ping is due at once, and the shard has not checked the session"
    );
    assert!(get(&session).await.await.is_err());
    assert!(!session.connected());
}

#[actix_rt::test]
async fn a_poll_response_counts_as_received_at_the_next_poll() {
    let (session, connection) = joined().await;
    connection.push(Encoded::from_packet("2[\"a\"]").frames(), false, std::time::Instant::now());
    assert_eq!(poll(&session).await.unwrap(), "42[\"a\"]");
    connection.end(CloseReason::TransportClose);
    assert!(!connection.client_closed_after(0), "the response may be in flight");
    let (session, connection) = joined().await;
    let _waiting = get(&session).await;
    connection.end(CloseReason::TransportClose);
    assert!(connection.client_closed_after(connection.pushed()));
}

#[actix_rt::test]
async fn events_to_a_client_over_a_limit_are_sent_with_the_next_poll() {
    let (session, connection) = joined().await;
    let flood = || Post(["3"; 11].join("\x1e").into());
    connection.push(Encoded::from_packet("2[\"a\"]").frames(), false, std::time::Instant::now());
    assert_eq!(session.send(flood()).await.unwrap(), Err(CloseReason::Flood));
    assert_eq!(poll(&session).await.unwrap(), "42[\"a\"]");
    assert_eq!(poll(&session).await.unwrap(), "1");

    let (session, _link) = joined().await;
    assert_eq!(session.send(flood()).await.unwrap(), Err(CloseReason::Flood));
    assert!(session.send(Get(None)).await.is_err(), "no packet was queued");
}
