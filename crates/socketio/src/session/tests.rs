//! The session actor without a network.

use crate::{
    CloseReason, Config, Encoded,
    connection::EndRequest,
    session::{Inbound, PipeInput},
    testing::{PIPE, open_session, worker},
};

fn event(name: &str) -> Encoded {
    Encoded::event("/", name, &(), None).unwrap()
}

#[actix_rt::test]
async fn a_session_opens_answers_connect_and_delivers_events() {
    let client = open_session(&worker(Config::default()));
    client.send("40").await;
    client.send("427[\"hi\"]").await;
    let sent = client.received();
    assert!(sent[0].contains("pingInterval"), "{sent:?}");
    assert!(sent[1].starts_with("40{\"sid\":\""), "{sent:?}");
    assert_eq!(sent[2..], ["437[\"hi\"]"]);
    assert_eq!(*client.events.borrow(), ["connected", "hi"]);
}

#[actix_rt::test]
async fn packets_before_the_connect_answer_are_held_back() {
    let worker = worker(Config::default());
    let client = open_session(&worker);
    client.send("40{\"wait\":1}").await;
    worker.0.local.table("/", |table| table.select(&[], |_, socket| socket.send(&event("early"))));
    assert_eq!(client.received().len(), 1, "the open packet only");
    client.gate.notify_one();
    tokio::task::yield_now().await;
    client.send("3").await;
    let sent = client.received();
    assert!(sent[0].starts_with("40{\"sid\":\""), "{sent:?}");
    assert_eq!(sent[1..], ["42[\"early\"]"]);
}

#[actix_rt::test]
async fn a_client_that_leaves_before_the_application_answers_is_not_accepted() {
    let client = open_session(&worker(Config::default()));
    client.send("40{\"wait\":1}").await;
    client.send("41").await;
    client.gate.notify_one();
    tokio::task::yield_now().await;
    client.send("3").await;
    assert_eq!(*client.events.borrow(), ["closed: client namespace disconnect"]);
    assert_eq!(client.received().len(), 1, "the open packet only");
    assert_eq!(client.worker.local.count(), 0);
}

#[actix_rt::test]
async fn pending_connects_of_one_client_are_bounded() {
    let client = open_session(&worker(Config { max_namespaces: 2, ..Config::default() }));
    for _ in 0..2 {
        client.send("40{\"wait\":1}").await;
        client.send("41").await;
    }
    client.send("40{\"wait\":1}").await;
    assert_eq!(client.received()[1..], ["44{\"message\":\"Too many namespaces\"}"]);
    client.gate.notify_one();
    tokio::task::yield_now().await;
    client.send("40").await;
    assert!(
        client.received()[0].starts_with("40{\"sid\":\""),
        "the client may join once a CONNECT is answered"
    );
}

#[actix_rt::test]
async fn a_client_that_floods_refused_connects_is_closed() {
    let client = open_session(&worker(Config::default()));
    for _ in 0..20 {
        client.send("40{\"fail\":1}").await;
    }
    assert_eq!(client.received().len(), 21, "each was answered");
    client.send("40{\"fail\":1}").await;
    let refusal = "44{\"message\":\"Too many CONNECTs in one second\"}";
    assert_eq!(client.received(), [refusal, "close 1008 flood"]);
}

#[actix_rt::test]
async fn an_unjoined_session_is_closed_when_too_many_open_after_it() {
    let worker = worker(Config { max_unjoined: 2, ..Config::default() });
    let joined = open_session(&worker);
    joined.send("40").await;
    let unjoined = open_session(&worker);
    let others = [open_session(&worker), open_session(&worker)];
    unjoined.send("6").await;
    assert!(!unjoined.session.connected() && joined.session.connected());
    assert!(others.iter().all(|other| other.session.connected()));
}

#[actix_rt::test]
async fn a_client_that_floods_unexpected_acks_is_closed() {
    let client = open_session(&worker(Config::default()));
    client.send("40").await;
    for _ in 0..1000 {
        client.send("431[]").await;
    }
    assert_eq!(client.received().len(), 2);
    client.send("431[]").await;
    assert_eq!(client.received(), ["close 1008 flood"]);
}

#[actix_rt::test]
async fn a_peer_can_emit_before_its_client_is_closed_for_exceeding_a_limit() {
    // The tests of the official client expect 1009 without a reason.
    for (reason, close) in [(CloseReason::Flood, "close 1008 flood"), (CloseReason::TooLarge, "close 1009")] {
        let client = open_session(&worker(Config::default()));
        client.send("40{\"warn\":1}").await;
        client.received();
        let input = PipeInput::Failed(reason);
        let _ = client.session.send(Inbound { pipe: PIPE, input, permit: None }).await;
        assert_eq!(client.received(), ["42[\"warned\"]", close]);
        let events = client.events.borrow();
        assert_eq!(
            events[1..],
            [format!("ending: {}", reason.as_str()), format!("closed: {}", reason.as_str())]
        );
    }
}

#[actix_rt::test]
async fn only_the_first_reason_takes_effect_and_closed_is_called_once() {
    let client = open_session(&worker(Config::default()));
    client.send("40").await;
    client.connection.end(CloseReason::PingTimeout);
    client.connection.end(CloseReason::Slow);
    client.send("42[\"late\"]").await;
    let _ = client.session.send(EndRequest::Session(CloseReason::ServerClose)).await;
    assert_eq!(*client.events.borrow(), ["connected", "closed: ping timeout"]);
    assert_eq!(client.received().last().map(String::as_str), Some("close 1008 ping timeout"));
    assert_eq!(client.worker.local.count(), 0);
    assert!(!client.session.connected());
}
