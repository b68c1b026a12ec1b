//! A thousand clients that read nothing among a thousand that do, while fifty messages a second flow: the server drops the
//! ones, the others miss nothing, and its memory stays within what may wait for all clients together. `bench slow` measures
//! what the others notice of it.

use futures_util::{StreamExt, stream};

use crate::support::{LoadSenders, RawSocket, TestServer, TestUser, with_timeout};

const FAST: usize = 1000;
const SLOW: usize = 1000;
/// Ten seconds of talk: a few until the kernel's buffers are full, then as long as nobody may leave anything unread.
const MESSAGES: usize = 500;
const BYTES: usize = 2000;
/// What may wait for all clients together (`--queued-bytes`), and what the kernel does not hold of a thousand connections.
const GROWTH: u64 = (256 + 64) << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_read_nothing_are_dropped_and_nobody_else_notices() {
    // No heartbeat ends anything here: it is the unread messages that do.
    let server = TestServer::start_with(&["--ping-interval", "300s"]).await;
    let (readers, sleepers) =
        (server.users_for("reader", FAST).await, server.users_for("sleeper", SLOW).await);
    let mut senders = LoadSenders::connect(&server).await;
    let clients = LoadSenders::polling_clients(&readers, FAST).await;
    let listening: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.upgrade_after(0))).collect();
    let before = server.system.resident_bytes();
    let asleep = fall_asleep(&sleepers).await;
    assert_eq!(sleepers_online(&server, &readers[0]).await, sleepers.len());

    let all = senders.send_messages(MESSAGES, BYTES).await;
    let peak = server.system.peak_bytes();
    for listener in listening {
        let listener = with_timeout("a reader to hear the end", listener)
            .await
            .expect("readers fail only by an assertion");
        assert_eq!(listener.received, all, "a reader lost something, heard it twice or in another order");
    }
    // A user is online as long as one of the user's sockets is there.
    with_timeout("the server to drop all that do not read", async {
        while sleepers_online(&server, &readers[0]).await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    let slow = server.system.counter(r#"socketio_sessions_closed_total{reason="slow"}"#).await;
    assert!(
        slow >= SLOW * 9 / 10,
        "only {slow} were dropped for being slow: the kernel gave up on the others"
    );
    let grown = peak.saturating_sub(before);
    assert!(grown < GROWTH, "grew by {grown} bytes");
    drop(asleep);
}

/// Connects clients with tiny receive buffers, which read no more.
async fn fall_asleep(users: &[TestUser]) -> Vec<RawSocket> {
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

/// How many of them the server still takes for being there.
async fn sleepers_online(server: &TestServer, asking: &TestUser) -> usize {
    let online = asking.get("/presence/online").await.expect(200).json();
    let names = online["online"].as_array().unwrap_or_else(|| panic!("{online}: {}", server.system.address));
    names.iter().filter(|name| name.as_str().is_some_and(|name| name.starts_with("sleeper"))).count()
}
