//! Which senders wait for which clients, and for how long.

use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::*;
use crate::connection::{budget::Budget, send_queue::Limits};

/// A send queue for eight frames that contains `frames`.
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
async fn senders_wait_for_a_client_that_reads() {
    let send_queue = send_queue(4);
    let waiting = wait_for(vec![send_queue.clone(), send_queue.clone()], Pressure::Behind);
    let reading = async { send_queue.take_if(|_| true) };
    futures_util::join!(waiting, reading);
    assert_eq!(send_queue.lag(Pressure::Behind), None, "the wait ended because the queue has capacity");
}

#[actix_rt::test]
async fn senders_do_not_wait_for_a_client_that_does_not_read() {
    let send_queue = send_queue(5);
    wait_for(vec![send_queue.clone()], Pressure::Behind).await;
    assert_eq!(send_queue.lag(Pressure::Behind), None, "no sender waits for it");
    send_queue.take_if(|_| true);
    assert!(send_queue.lag(Pressure::Behind).is_some());
}

/// The sender of the events waits for a client that lags. The next batch, from other senders, does not.
#[actix_rt::test]
async fn only_its_sender_waits_for_a_lagging_client() {
    let behind = send_queue(5);
    let ((burst, with_token), (quiet, free)) = (BackpressureToken::new(), BackpressureToken::new());
    let mut lagging = LaggingClients::default();
    lagging.add(behind.clone(), Some(&burst));
    drop((burst, quiet));
    let mut with_token = std::pin::pin!(with_token.done());
    let others = lagging.catch_up();
    assert!(others.now_or_never().is_some(), "others do not wait");
    free.done().await;
    assert!(futures_util::poll!(&mut with_token).is_pending());
    (0..2).for_each(|_| drop(behind.take_if(|_| true)));
    with_token.await;
}

#[actix_rt::test]
async fn all_senders_wait_for_a_reading_client_whose_queue_is_critical() {
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

/// A client with minimal progress cannot block all other senders forever.
#[actix_rt::test]
async fn all_senders_wait_for_one_client_only_for_a_bounded_time_until_it_has_caught_up() {
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
        assert!(batches < 100, "senders wait for it without end");
    }
    assert!(batches > 1);
    assert!(slow.lag(Pressure::Behind).is_some(), "its own senders still wait");
    while slow.lag(Pressure::Behind).is_some() {
        slow.take_if(|_| true);
    }
    push(&slow, 7 - 3);
    assert!(slow.lag(Pressure::Critical).is_some(), "it has caught up in between");
}
