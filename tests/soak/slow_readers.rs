//! A thousand clients that read nothing beside a thousand that do, under fifty messages a second: the server drops the slow
//! clients, the others miss no message, and its memory stays within the limit for queued messages of all clients together. `bench slow`
//! measures the latency of the others.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use crate::support::{LoadSenders, RawSocket, Request, TestServer, TestUser, with_timeout};

const FAST: usize = 1000;
const SLOW: usize = 1000;
/// Ten seconds of messages: a few until the kernel's buffers are full, then the time limit of unread messages.
const MESSAGES: usize = 500;
const BYTES: usize = 2000;
/// A machine that sends the messages in this time fills the send queues before the kernel's limit applies.
const PACE: Duration = Duration::from_secs(12);
/// The limit of queued messages of all clients together (`--queued-bytes`), and the memory of a thousand connections outside the kernel.
const GROWTH: u64 = (256 + 64) << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_read_nothing_are_dropped_without_effect_on_others() {
    // No heartbeat times out during the test: connections end because of unread messages.
    let server = TestServer::start_with(&["--ping-interval", "300s"]).await;
    let (readers, slow_users) =
        (server.users_for("reader", FAST).await, server.users_for("slow", SLOW).await);
    let mut senders = LoadSenders::connect(&server).await;
    let listening = senders.start_clients(&readers, FAST, |_| 0).await;
    let before = server.system.resident_bytes();
    let stalled = stop_reading(&slow_users).await;
    assert_eq!(slow_users_online(&server, &readers[0]).await, slow_users.len());

    let started = Instant::now();
    let all = senders.send_messages(MESSAGES, BYTES).await;
    let kept_pace = started.elapsed() < PACE;
    let peak = server.system.peak_bytes();
    for listener in listening {
        let listener = with_timeout("a reader to receive the last message", listener)
            .await
            .expect("readers fail only by an assertion");
        assert_eq!(listener.received, all, "lost, duplicate or out of order");
    }
    // A user is online as long as one of the user's sockets is connected.
    with_timeout("the server to drop all slow clients", async {
        while slow_users_online(&server, &readers[0]).await > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    // Two limits of the server end a client that reads nothing: the send queue's, and the kernel's for unacknowledged data. Which is
    // first depends on how fast the messages fill the buffers of the kernels.
    let slow = server.system.counter(r#"socketio_sessions_closed_total{reason="slow"}"#).await;
    assert!(
        !kept_pace || slow >= SLOW * 9 / 10,
        "only {slow} were dropped as slow: the kernel closed the others"
    );
    let grown = peak.saturating_sub(before);
    assert!(grown < GROWTH, "grew by {grown} bytes");
    drop(stalled);
}

/// Connects clients with small receive buffers, which stop reading.
async fn stop_reading(users: &[TestUser]) -> Vec<RawSocket> {
    let connecting = (0..SLOW).map(|n| {
        let user = &users[n % users.len()];
        async move {
            let mut raw = RawSocket::open(user.source, user.server, user.token(), Some(4096)).await;
            raw.join().await;
            raw
        }
    });
    stream::iter(connecting).buffer_unordered(32).collect().await
}

/// The number of slow users that the server lists as online.
async fn slow_users_online(server: &TestServer, asking: &TestUser) -> usize {
    let online = asking.request_patiently(Request::get("/presence/online")).await.expect(200).json();
    let names = online["online"].as_array().unwrap_or_else(|| panic!("{online}: {}", server.system.address));
    names.iter().filter(|name| name.as_str().is_some_and(|name| name.starts_with("slow"))).count()
}
