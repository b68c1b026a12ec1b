//! The session actor without a network.

use crate::{
    CloseReason, Config, Encoded,
    link::End,
    session::{Inbound, Said},
    testing::{PIPE, stage, worker},
};

fn event(name: &str) -> Encoded {
    Encoded::event("/", name, &(), None).unwrap()
}

#[actix_rt::test]
async fn opens_then_answers_connect_then_passes_events_on() {
    let stage = stage(&worker(Config::default()));
    stage.says("40").await;
    stage.says("427[\"hi\"]").await;
    let sent = stage.sent();
    assert!(sent[0].contains("pingInterval"), "{sent:?}");
    assert!(sent[1].starts_with("40{\"sid\":\""), "{sent:?}");
    assert_eq!(sent[2..], ["437[\"hi\"]"]);
    assert_eq!(*stage.diary.borrow(), ["connected", "hi"]);
}

#[actix_rt::test]
async fn what_is_sent_before_the_answer_to_connect_is_held_back() {
    let worker = worker(Config::default());
    let stage = stage(&worker);
    stage.says("40{\"wait\":1}").await;
    worker.0.local.table("/", |table| table.select(&[], |_, socket| socket.send(&event("early"))));
    assert_eq!(stage.sent().len(), 1, "the open packet only");
    stage.gate.notify_one();
    tokio::task::yield_now().await;
    stage.says("3").await;
    let sent = stage.sent();
    assert!(sent[0].starts_with("40{\"sid\":\""), "{sent:?}");
    assert_eq!(sent[1..], ["42[\"early\"]"]);
}

#[actix_rt::test]
async fn a_client_that_leaves_while_the_application_decides_is_not_let_in() {
    let stage = stage(&worker(Config::default()));
    stage.says("40{\"wait\":1}").await;
    stage.says("41").await;
    stage.gate.notify_one();
    tokio::task::yield_now().await;
    stage.says("3").await;
    assert_eq!(*stage.diary.borrow(), ["closed: client namespace disconnect"]);
    assert_eq!(stage.sent().len(), 1, "the open packet only");
    assert_eq!(stage.worker.local.count(), 0);
}

#[actix_rt::test]
async fn a_client_that_joins_and_leaves_without_end_does_not_pile_up_decisions() {
    let stage = stage(&worker(Config { max_namespaces: 2, ..Config::default() }));
    for _ in 0..2 {
        stage.says("40{\"wait\":1}").await;
        stage.says("41").await;
    }
    stage.says("40{\"wait\":1}").await;
    assert_eq!(stage.sent()[1..], ["44{\"message\":\"Too many namespaces\"}"]);
    stage.gate.notify_one();
    tokio::task::yield_now().await;
    stage.says("40").await;
    assert!(stage.sent()[0].starts_with("40{\"sid\":\""), "and may join once one is decided");
}

#[actix_rt::test]
async fn a_client_that_sends_pongs_without_end_is_closed() {
    let stage = stage(&worker(Config::default()));
    for _ in 0..10 {
        stage.says("3").await;
    }
    assert_eq!(stage.sent().len(), 1, "the open packet only");
    stage.says("6").await;
    assert_eq!(stage.sent(), ["close 1008 flood"]);
}

#[actix_rt::test]
async fn a_client_that_joins_nothing_without_end_is_closed() {
    let stage = stage(&worker(Config::default()));
    for _ in 0..20 {
        stage.says("40{\"fail\":1}").await;
    }
    assert_eq!(stage.sent().len(), 21, "each was answered");
    stage.says("40{\"fail\":1}").await;
    let words = "44{\"message\":\"Too many CONNECTs in one second\"}";
    assert_eq!(stage.sent(), [words, "close 1008 flood"]);
}

#[actix_rt::test]
async fn who_has_joined_nothing_goes_when_too_many_others_have_come() {
    let worker = worker(Config { max_unjoined: 2, ..Config::default() });
    let joined = stage(&worker);
    joined.says("40").await;
    let waits = stage(&worker);
    let others = [stage(&worker), stage(&worker)];
    waits.says("6").await;
    assert!(!waits.session.connected() && joined.session.connected());
    assert!(others.iter().all(|other| other.session.connected()));
}

#[actix_rt::test]
async fn a_client_that_answers_what_nobody_asked_without_end_is_closed() {
    let stage = stage(&worker(Config::default()));
    stage.says("40").await;
    for _ in 0..1000 {
        stage.says("431[]").await;
    }
    assert_eq!(stage.sent().len(), 2);
    stage.says("431[]").await;
    assert_eq!(stage.sent(), ["close 1008 flood"]);
}

#[actix_rt::test]
async fn an_event_before_the_answer_to_connect_comes_after_connected() {
    let stage = stage(&worker(Config::default()));
    stage.says("40{\"wait\":1}").await;
    stage.says("421[\"early\"]").await;
    stage.gate.notify_one();
    tokio::task::yield_now().await;
    stage.says("42[\"late\"]").await;
    assert_eq!(*stage.diary.borrow(), ["connected", "early", "late"]);
    assert_eq!(stage.sent()[2..], ["431[\"early\"]"]);
}

#[actix_rt::test]
async fn a_peer_can_say_why_before_its_client_is_cut_for_going_beyond_a_limit() {
    // The official client's own tests expect 1009 without a reason.
    for (reason, close) in [(CloseReason::Flood, "close 1008 flood"), (CloseReason::TooLarge, "close 1009")] {
        let stage = stage(&worker(Config::default()));
        stage.says("40{\"warn\":1}").await;
        stage.sent();
        let said = Said::Failed(reason);
        let _ = stage.session.send(Inbound { pipe: PIPE, said, counted: None }).await;
        assert_eq!(stage.sent(), ["42[\"warned\"]", close]);
        let diary = stage.diary.borrow();
        assert_eq!(
            diary[1..],
            [format!("ending: {}", reason.as_str()), format!("closed: {}", reason.as_str())]
        );
    }
}

#[actix_rt::test]
async fn the_answer_to_a_close_frame_carries_its_code() {
    for (code, answer) in [(Some(3999), "close 3999"), (None, "close 1000")] {
        let stage = stage(&worker(Config::default()));
        let _ = stage.session.send(Inbound { pipe: PIPE, said: Said::Closed(code), counted: None }).await;
        assert_eq!(stage.sent()[1..], [answer]);
    }
}

#[actix_rt::test]
async fn a_refused_client_leaves_no_socket_behind() {
    let stage = stage(&worker(Config::default()));
    stage.says("40{\"fail\":1}").await;
    assert_eq!(stage.sent()[1..], ["44{\"message\":\"no\"}"]);
    assert_eq!(stage.worker.local.count(), 0);
}

#[actix_rt::test]
async fn only_the_first_reason_to_end_counts_and_the_peer_hears_it_once() {
    let stage = stage(&worker(Config::default()));
    stage.says("40").await;
    stage.link.end(CloseReason::PingTimeout);
    stage.link.end(CloseReason::Slow);
    stage.says("42[\"late\"]").await;
    let _ = stage.session.send(End::Session(CloseReason::ServerClose)).await;
    assert_eq!(*stage.diary.borrow(), ["connected", "closed: ping timeout"]);
    assert_eq!(stage.sent().last().map(String::as_str), Some("close 1008 ping timeout"));
    assert_eq!(stage.worker.local.count(), 0);
    assert!(!stage.session.connected());
}

#[actix_rt::test]
async fn a_violation_ends_the_session_with_its_code() {
    let stage = stage(&worker(Config::default()));
    let _ = stage
        .session
        .send(Inbound { pipe: PIPE, said: Said::Failed(CloseReason::TooLarge), counted: None })
        .await;
    assert_eq!(stage.sent().last().map(String::as_str), Some("close 1009"));
}
