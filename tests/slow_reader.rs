//! A member that stops reading, in a room with traffic: dropped within 10 s, at the cost of less than 2 MiB, and nobody
//! else loses anything.

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

/// How soon the slow one must be gone.
const LIMIT: Duration = Duration::from_secs(10);
/// How much the process may grow because of it.
const GROWTH: u64 = 2 << 20;
/// Enough to fill what the kernel holds for a socket within a few seconds, at ten messages of 8 KiB a second each.
const SENDERS: usize = 10;

/// What the slow one does instead of reading.
#[derive(Clone, Copy, PartialEq)]
enum Pongs {
    /// Nothing.
    Never,
    /// Answers pings it has not read.
    Blindly,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_reads_nothing_is_dropped_and_nobody_else_notices() {
    drops_the_slow_one(Pongs::Never).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_answers_pings_but_reads_nothing_is_dropped_too() {
    drops_the_slow_one(Pongs::Blindly).await;
}

async fn drops_the_slow_one(pongs: Pongs) {
    let server = TestServer::start().await;
    let mut bob = server.connected_user("bob").await;
    let sloth = server.user("sloth").await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        let socket = server.user(&format!("speaker{n}")).await.connect().await;
        senders.push(speak(socket, Arc::clone(&stop), Arc::clone(&sent)));
    }
    // The same traffic without the slow one first: what the process grows by then is not the slow one's doing.
    hears_up_to(&mut bob, 500).await;
    let before = server.system.resident_bytes();

    let asleep = fall_asleep(&sloth, pongs).await;
    bob.until("presence", |presence| presence.to_string().contains("sloth")).await;
    let gone = bob.until("presence", |presence| !presence.to_string().contains("sloth"));
    tokio::time::timeout(LIMIT, gone).await.expect("the slow one was not dropped in time");
    let grown = server.system.resident_bytes().saturating_sub(before);
    asleep.abort();

    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        with_timeout("a speaker to finish", sender).await.expect("speakers fail only by an assertion");
    }
    hears_up_to(&mut bob, sent.load(Ordering::Relaxed)).await;
    let places: Vec<u64> = bob.received.iter().filter_map(|message| message["seq"].as_u64()).collect();
    let all: Vec<u64> = (1..=sent.load(Ordering::Relaxed)).collect();
    assert_eq!(places, all, "bob missed something, heard it twice or in another order");
    assert!(grown < GROWTH, "grew by {grown} bytes");
}

/// Connects with a tiny receive buffer and reads no more.
async fn fall_asleep(sloth: &TestUser, pongs: Pongs) -> JoinHandle<()> {
    let mut raw = RawSocket::open(sloth.source, sloth.server, sloth.token(), Some(4096)).await;
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

/// Says as much as is allowed, until told to stop.
fn speak(mut socket: Socket, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> JoinHandle<()> {
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

/// Waits until the message with this place has been heard.
async fn hears_up_to(socket: &mut Socket, seq: u64) {
    let last = |socket: &Socket| {
        socket.received.last().and_then(|message| message["seq"].as_u64()).unwrap_or_default()
    };
    while last(socket) < seq {
        socket.next("message").await;
    }
}
