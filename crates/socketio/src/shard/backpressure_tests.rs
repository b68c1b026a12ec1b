//! Which senders wait for which clients, and for how long.

use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::*;
use crate::connection::{budget::Budget, send_queue::Limits};

/// An send_queue of eight frames in which `frames` wait.
fn send_queue(frames: usize) -> Arc<SendQueue> {
    let budget = Arc::new(Budget::new(10_000));
    let limits = Limits { bytes: 1000, frames: 8, stall: Duration::from_secs(5), budget };
    let send_queue = Arc::new(SendQueue::new(limits));
    push(&send_queue, frames);
    send_queue
}

fn push(send_queue: &SendQueue, frames: usize) {
    for _ in 0..frames {
        send_queue.push(Bytes::from_static(b"x"), false, Instant::now());
    }
}

#[actix_rt::test]
async fn a_client_that_reads_is_waited_for() {
    let send_queue = send_queue(4);
    let waiting = wait_for(vec![send_queue.clone(), send_queue.clone()], Pressure::Behind);
    let reading = async { send_queue.take_if(|_| true) };
    futures_util::join!(waiting, reading);
    assert_eq!(send_queue.lag(Pressure::Behind), None, "the wait ended because there is room");
}

#[actix_rt::test]
async fn a_client_that_does_not_read_is_given_up_until_it_moves() {
    let send_queue = send_queue(5);
    wait_for(vec![send_queue.clone()], Pressure::Behind).await;
    assert_eq!(send_queue.lag(Pressure::Behind), None, "nobody waits for it any more");
    send_queue.take_if(|_| true);
    assert!(send_queue.lag(Pressure::Behind).is_some());
}

/// Whoever sends to a client that is behind waits for it. The next batch, of others, does not.
#[actix_rt::test]
async fn only_the_sender_waits_for_a_client_that_is_behind() {
    let behind = send_queue(5);
    let ((loud, with_token), (quiet, free)) = (BackpressureToken::new(), BackpressureToken::new());
    let mut lagging = LaggingClients::default();
    lagging.add(behind.clone(), Some(&loud));
    drop((loud, quiet));
    let mut with_token = std::pin::pin!(with_token.done());
    let others = lagging.catch_up();
    assert!(others.now_or_never().is_some(), "others do not wait");
    free.done().await;
    assert!(futures_util::poll!(&mut with_token).is_pending());
    (0..2).for_each(|_| drop(behind.take_if(|_| true)));
    with_token.await;
}

#[actix_rt::test]
async fn all_wait_for_a_client_that_reads_and_that_one_more_batch_could_be_too_much_for() {
    let critical = send_queue(6);
    let (token, _wait) = BackpressureToken::new();
    let mut lagging = LaggingClients::default();
    lagging.add(critical.clone(), Some(&token));
    let mut waiting = std::pin::pin!(lagging.catch_up());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    critical.take_if(|_| true);
    waiting.await;
    assert_eq!(critical.lag(Pressure::Critical), None);
}

/// A client that moves just enough to be waited for cannot hold up all others for ever.
#[actix_rt::test]
async fn all_wait_for_one_client_only_so_long_until_it_has_caught_up() {
    let slow = send_queue(7);
    let mut batches = 0;
    while slow.lag(Pressure::Critical).is_some() {
        let (token, _wait) = BackpressureToken::new();
        let mut lagging = LaggingClients::default();
        lagging.add(slow.clone(), Some(&token));
        let moving = async {
            for _ in 0..MAX_CHECKS {
                tokio::time::sleep(CHECK_INTERVAL).await;
                slow.take_if(|_| true);
                push(&slow, 1);
            }
        };
        futures_util::join!(lagging.catch_up(), moving);
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
