//! A client that stops reading, in a room with traffic: it is dropped within 10 s, the process grows by less than 2 MiB, and no other
//! client misses a message.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{RawSocket, Socket, TestServer, TestUser, masked, with_timeout};

/// The time limit for the drop of the slow client.
const LIMIT: Duration = Duration::from_secs(10);
/// The limit of the process's growth, in bytes.
const GROWTH: u64 = 2 << 20;
/// With ten messages of 8 KiB per second each, enough to fill the kernel's socket buffers within a few seconds.
const SENDERS: usize = 10;

/// What the slow client sends while it does not read.
#[derive(Clone, Copy, PartialEq)]
enum Pongs {
    /// Sends nothing.
    Never,
    /// Responses to pings that it has not read.
    Blindly,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_dropped_without_effect_on_others() {
    check_slow_client(Pongs::Never).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_answers_pings_but_reads_nothing_is_dropped() {
    check_slow_client(Pongs::Blindly).await;
}

async fn check_slow_client(pongs: Pongs) {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let slow = server.user("slow").await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        let socket = server.user(&format!("sender{n}")).await.connect().await;
        senders.push(send_continuously(socket, Arc::clone(&stop), Arc::clone(&sent)));
    }
    // The same traffic without the slow client first, so that its memory is not counted.
    receive_up_to(&mut bob, 500).await;
    let before = server.system.resident_bytes();

    let stalled = stop_reading(&slow, pongs).await;
    bob.until("presence", |presence| presence.to_string().contains("slow")).await;
    let gone = bob.until("presence", |presence| !presence.to_string().contains("slow"));
    tokio::time::timeout(LIMIT, gone).await.expect("the slow client was not dropped in time");
    let grown = server.system.resident_bytes().saturating_sub(before);
    stalled.abort();

    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        with_timeout("a sender to finish", sender).await.expect("senders fail only by an assertion");
    }
    receive_up_to(&mut bob, sent.load(Ordering::Relaxed)).await;
    let seqs: Vec<u64> = bob.received.iter().filter_map(|message| message["seq"].as_u64()).collect();
    let all: Vec<u64> = (1..=sent.load(Ordering::Relaxed)).collect();
    assert_eq!(seqs, all, "lost, duplicate or out of order");
    assert!(grown < GROWTH, "grew by {grown} bytes");
}

/// Connects with a small receive buffer and stops reading.
async fn stop_reading(slow: &TestUser, pongs: Pongs) -> JoinHandle<()> {
    let mut raw = RawSocket::open(slow.source, slow.server, slow.token(), Some(4096)).await;
    raw.join().await;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if pongs == Pongs::Blindly {
                raw.write(&masked(0x81, b"3")).await;
            }
        }
    })
}

/// Sends as many messages as the rate limit allows, until `stop` is set.
fn send_continuously(mut socket: Socket, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> JoinHandle<()> {
    let post = json!({"text": "z".repeat(8000)});
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            let ack = socket.emit_with_ack("message", &post).await;
            match ack["seq"].as_u64() {
                Some(seq) => drop(sent.fetch_max(seq, Ordering::Relaxed)),
                None => {
                    let wait = ack["retryAfter"].as_f64().unwrap_or_else(|| panic!("{ack}"));
                    tokio::time::sleep(Duration::from_secs_f64(wait)).await;
                }
            }
            socket.clear();
        }
    })
}

/// Waits until the message with this `seq` has been received.
async fn receive_up_to(socket: &mut Socket, seq: u64) {
    let last = |socket: &Socket| {
        socket.received.last().and_then(|message| message["seq"].as_u64()).unwrap_or_default()
    };
    while last(socket) < seq {
        socket.next("message").await;
    }
}
