//! The session actor without a network.

use crate::{
    CloseReason, Config, Encoded,
    connection::End,
    session::{Inbound, PipeInput},
    testing::{PIPE, open_session, worker},
};

fn event(name: &str) -> Encoded {
    Encoded::event("/", name, &(), None).unwrap()
}

#[actix_rt::test]
async fn opens_then_answers_connect_then_passes_events_on() {
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
async fn what_is_sent_before_the_answer_to_connect_is_held_back() {
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
async fn a_client_that_leaves_while_the_application_decides_is_not_let_in() {
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
async fn a_client_that_joins_and_leaves_without_end_does_not_pile_up_decisions() {
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
    assert!(client.received()[0].starts_with("40{\"sid\":\""), "and may join once one is decided");
}

#[actix_rt::test]
async fn a_client_that_sends_pongs_without_end_is_closed() {
    let client = open_session(&worker(Config::default()));
    for _ in 0..10 {
        client.send("3").await;
    }
    assert_eq!(client.received().len(), 1, "the open packet only");
    client.send("6").await;
    assert_eq!(client.received(), ["close 1008 flood"]);
}

#[actix_rt::test]
async fn a_client_that_joins_nothing_without_end_is_closed() {
    let client = open_session(&worker(Config::default()));
    for _ in 0..20 {
        client.send("40{\"fail\":1}").await;
    }
    assert_eq!(client.received().len(), 21, "each was answered");
    client.send("40{\"fail\":1}").await;
    let words = "44{\"message\":\"Too many CONNECTs in one second\"}";
    assert_eq!(client.received(), [words, "close 1008 flood"]);
}

#[actix_rt::test]
async fn who_has_joined_nothing_goes_when_too_many_others_have_come() {
    let worker = worker(Config { max_unjoined: 2, ..Config::default() });
    let joined = open_session(&worker);
    joined.send("40").await;
    let waits = open_session(&worker);
    let others = [open_session(&worker), open_session(&worker)];
    waits.send("6").await;
    assert!(!waits.session.connected() && joined.session.connected());
    assert!(others.iter().all(|other| other.session.connected()));
}

#[actix_rt::test]
async fn a_client_that_answers_what_nobody_asked_without_end_is_closed() {
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
async fn an_event_before_the_answer_to_connect_comes_after_connected() {
    let client = open_session(&worker(Config::default()));
    client.send("40{\"wait\":1}").await;
    client.send("421[\"early\"]").await;
    client.gate.notify_one();
    tokio::task::yield_now().await;
    client.send("42[\"late\"]").await;
    assert_eq!(*client.events.borrow(), ["connected", "early", "late"]);
    assert_eq!(client.received()[2..], ["431[\"early\"]"]);
}

#[actix_rt::test]
async fn a_peer_can_say_why_before_its_client_is_cut_for_going_beyond_a_limit() {
    // The official client's own tests expect 1009 without a reason.
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
async fn the_answer_to_a_close_frame_carries_its_code() {
    for (code, answer) in [(Some(3999), "close 3999"), (None, "close 1000")] {
        let client = open_session(&worker(Config::default()));
        let _ =
            client.session.send(Inbound { pipe: PIPE, input: PipeInput::Closed(code), permit: None }).await;
        assert_eq!(client.received()[1..], [answer]);
    }
}

#[actix_rt::test]
async fn a_refused_client_leaves_no_socket_behind() {
    let client = open_session(&worker(Config::default()));
    client.send("40{\"fail\":1}").await;
    assert_eq!(client.received()[1..], ["44{\"message\":\"no\"}"]);
    assert_eq!(client.worker.local.count(), 0);
}

#[actix_rt::test]
async fn only_the_first_reason_to_end_counts_and_the_peer_hears_it_once() {
    let client = open_session(&worker(Config::default()));
    client.send("40").await;
    client.connection.end(CloseReason::PingTimeout);
    client.connection.end(CloseReason::Slow);
    client.send("42[\"late\"]").await;
    let _ = client.session.send(End::Session(CloseReason::ServerClose)).await;
    assert_eq!(*client.events.borrow(), ["connected", "closed: ping timeout"]);
    assert_eq!(client.received().last().map(String::as_str), Some("close 1008 ping timeout"));
    assert_eq!(client.worker.local.count(), 0);
    assert!(!client.session.connected());
}

#[actix_rt::test]
async fn a_violation_ends_the_session_with_its_code() {
    let client = open_session(&worker(Config::default()));
    let _ = client
        .session
        .send(Inbound { pipe: PIPE, input: PipeInput::Failed(CloseReason::TooLarge), permit: None })
        .await;
    assert_eq!(client.received().last().map(String::as_str), Some("close 1009"));
}
