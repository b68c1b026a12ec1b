//! What a room does when its stores fail, are slow, or do not say what they have done.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::event::Code;

use super::{
    code,
    faulty::Fault,
    support::{Stage, name, post, with_id},
};
use crate::{
    ask::ask,
    broker::Entry,
    room::{
        Settle,
        membership::{Add, Check, Remove},
        queue::WAITING,
    },
};

#[actix_rt::test]
async fn an_unknown_outcome_is_refused_and_the_next_post_takes_the_next_number() {
    let mut stage = Stage::with(Fault::StoresAndFails).await;
    let unsure = stage.ask("lobby", with_id("alice", "hi", "c1")).await;
    assert_eq!(code(&unsure), Some(Code::Unavailable));
    stage.heal();
    assert_eq!(stage.ask("lobby", post("bob", "and?")).await.unwrap().seq, 2);
    assert_eq!(stage.ask("lobby", with_id("alice", "hi", "c1")).await.unwrap().seq, 1);
    assert_eq!(stage.said().await, [(1, "hi".to_owned()), (2, "and?".to_owned())]);
}

#[actix_rt::test]
async fn a_store_that_refuses_is_answered_for_and_tried_again() {
    let mut stage = Stage::with(Fault::Fails).await;
    for _ in 0..3 {
        let refused = stage.ask("lobby", post("alice", "x")).await.unwrap_err();
        assert!(refused.refused().retry_after.is_some());
    }
    stage.heal();
    assert_eq!(stage.ask("lobby", post("alice", "y")).await.unwrap().seq, 1);
    assert_eq!(stage.said().await.len(), 1);
}

#[actix_rt::test]
async fn a_full_queue_refuses_and_everything_accepted_is_still_said() {
    let mut stage = Stage::with(Fault::Waits).await;
    let lobby = stage.room("lobby").await;
    let mut pending = Vec::new();
    // One is being written, as many as may wait do so, and then there is no place.
    for n in 0..=WAITING {
        match ask(&lobby, post("alice", &n.to_string())) {
            Ok(answer) => pending.push(answer),
            Err(_) => panic!("the mailbox is full"),
        }
        if n % 256 == 0 {
            stage.ask("lobby", Check(name("alice"))).await.unwrap();
        }
    }
    let over = stage.ask("lobby", post("alice", "over")).await;
    assert_eq!(code(&over), Some(Code::Unavailable));
    let settled = ask(&lobby, Settle).ok().unwrap();
    stage.heal();
    let answers = join_all(pending.into_iter().map(|answer| answer.answer()));
    // The log's queue is as long as the room's: nobody empties it, and the store waits.
    let emptied = async {
        for _ in 0..=WAITING {
            stage.entries.recv().await.expect("the log is open");
        }
    };
    let (answers, ()) = futures_util::join!(answers, emptied);
    assert!(answers.iter().all(Result::is_ok));
    settled.answer().await.unwrap();
}

#[actix_rt::test]
async fn a_store_that_never_answers_is_answered_for() {
    let stage = Stage::with(Fault::Waits).await;
    let lobby = stage.room("lobby").await;
    // The deadline is the caller's, as a client keeps it.
    let pending = ask(&lobby, post("alice", "x")).ok().unwrap();
    let answer = pending.until(Instant::now() + Duration::from_millis(1)).await;
    assert_eq!(code(&answer), Some(Code::Unavailable));
}

/// Alice's tea room with bob in it.
async fn tea() -> Stage {
    let stage = Stage::new().await;
    stage.create("tea", "alice", false).await;
    stage.ask("tea", Add { by: name("bob"), user: name("bob") }).await.unwrap();
    stage
}

#[actix_rt::test]
async fn a_removal_whose_answer_is_lost_still_removes() {
    let stage = tea().await;
    stage.set(Fault::StoresAndFails);
    let unsure = stage.ask("tea", Remove { by: name("alice"), user: name("bob") }).await;
    assert_eq!(code(&unsure), Some(Code::Unavailable));
    stage.heal();
    assert_eq!(code(&stage.ask("tea", post("bob", "still here?")).await), Some(Code::Forbidden));
}

#[actix_rt::test]
async fn a_removal_that_is_stored_after_it_was_given_up_still_removes() {
    let mut stage = tea().await;
    stage.set(Fault::FailsAndStores);
    let unsure = stage.ask("tea", Remove { by: name("alice"), user: name("bob") }).await;
    assert_eq!(code(&unsure), Some(Code::Unavailable));
    assert!(stage.ask("tea", Check(name("bob"))).await.is_ok(), "not yet");
    stage.heal();
    while !matches!(stage.entries.recv().await.unwrap(), Entry::Left { .. }) {}
    let gone = async { while stage.ask("tea", Check(name("bob"))).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the room hears of it");
}
