//! Which senders wait for which clients, and for how long.

use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::*;
use crate::link::{budget::Budget, outbox::Limits};

/// An outbox of eight frames in which `frames` wait.
fn outbox(frames: usize) -> Arc<Outbox> {
    let budget = Arc::new(Budget::new(10_000));
    let limits = Limits { bytes: 1000, frames: 8, stall: Duration::from_secs(5), budget };
    let outbox = Arc::new(Outbox::new(limits));
    push(&outbox, frames);
    outbox
}

fn push(outbox: &Outbox, frames: usize) {
    for _ in 0..frames {
        outbox.push(Bytes::from_static(b"x"), false, Instant::now());
    }
}

#[actix_rt::test]
async fn a_client_that_reads_is_waited_for() {
    let outbox = outbox(4);
    let waiting = pace(vec![outbox.clone(), outbox.clone()], Pressure::Behind);
    let reading = async { outbox.take_if(|_| true) };
    futures_util::join!(waiting, reading);
    assert_eq!(outbox.lag(Pressure::Behind), None, "the wait ended because there is room");
}

#[actix_rt::test]
async fn a_client_that_does_not_read_is_given_up_until_it_moves() {
    let outbox = outbox(5);
    pace(vec![outbox.clone()], Pressure::Behind).await;
    assert_eq!(outbox.lag(Pressure::Behind), None, "nobody waits for it any more");
    outbox.take_if(|_| true);
    assert!(outbox.lag(Pressure::Behind).is_some());
}

/// Whoever sends to a client that is behind waits for it. The next batch, of others, does not.
#[actix_rt::test]
async fn only_the_sender_waits_for_a_client_that_is_behind() {
    let behind = outbox(5);
    let ((loud, paced), (quiet, free)) = (Pacer::new(), Pacer::new());
    let mut crowd = Crowd::default();
    crowd.add(behind.clone(), Some(&loud));
    drop((loud, quiet));
    let mut paced = std::pin::pin!(paced.done());
    let others = crowd.catch_up();
    assert!(others.now_or_never().is_some(), "others do not wait");
    free.done().await;
    assert!(futures_util::poll!(&mut paced).is_pending());
    (0..2).for_each(|_| drop(behind.take_if(|_| true)));
    paced.await;
}

#[actix_rt::test]
async fn all_wait_for_a_client_that_reads_and_that_one_more_batch_could_be_too_much_for() {
    let critical = outbox(6);
    let (pacer, _paced) = Pacer::new();
    let mut crowd = Crowd::default();
    crowd.add(critical.clone(), Some(&pacer));
    let mut waiting = std::pin::pin!(crowd.catch_up());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    critical.take_if(|_| true);
    waiting.await;
    assert_eq!(critical.lag(Pressure::Critical), None);
}

/// A client that moves just enough to be waited for cannot hold up all others for ever.
#[actix_rt::test]
async fn all_wait_for_one_client_only_so_long_until_it_has_caught_up() {
    let slow = outbox(7);
    let mut batches = 0;
    while slow.lag(Pressure::Critical).is_some() {
        let (pacer, _paced) = Pacer::new();
        let mut crowd = Crowd::default();
        crowd.add(slow.clone(), Some(&pacer));
        let moving = async {
            for _ in 0..LOOKS {
                tokio::time::sleep(LOOK).await;
                slow.take_if(|_| true);
                push(&slow, 1);
            }
        };
        futures_util::join!(crowd.catch_up(), moving);
        batches += 1;
        assert!(batches < 100, "it is waited for without end");
    }
    assert!(batches > 1);
    assert!(slow.lag(Pressure::Behind).is_some(), "those that send to it still wait");
    while slow.lag(Pressure::Behind).is_some() {
        slow.take_if(|_| true);
    }
    push(&slow, 7 - 3);
    assert!(slow.lag(Pressure::Critical).is_some(), "it has caught up in between");
}
