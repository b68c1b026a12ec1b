//! A chat node drains under load: its clients reconnect to another node and receive every message once and in order.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::support::{NODES, PATIENT, Progress, Socket, TestServer, TestUser, scale, with_timeout};
/// How many clients connect at the same time.
const AT_ONCE: usize = 32;
/// The number of senders; each stays below the rate limit of one user.
const SENDERS: usize = 10;
/// The number of messages.
const MESSAGES: usize = 300;
/// The number of messages before the node receives SIGTERM.
const BEFORE: usize = 40;
/// The time between two messages.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a client reports its progress.
const REPORT: Duration = Duration::from_millis(500);
/// The delays of a stock client before it reconnects, the first and the longest, before randomization. Clients that retry faster keep a slow
/// machine busy with handshakes.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// The messages that one client received, and how often it reconnected.
struct Received {
    seqs: Vec<u64>,
    reconnects: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_draining_node_reconnect_and_receive_every_message_once() {
    let count = scale(200, 2_000);
    let mut server = TestServer::start_with(&PATIENT).await;
    let users = server.users_for("client", count).await;
    let senders = server.users_for("sender", SENDERS * 20).await;
    let [draining, staying] = NODES;
    // All clients connect to this node while it is the only one.
    server.system.stop_process(staying).await;
    let opening = (0..count).map(|n| {
        let user = users[n % users.len()].clone();
        async { (user.connect_patiently(user.handshake()).await.expect("a socket"), user) }
    });
    let sockets: Vec<_> = stream::iter(opening).buffer_unordered(AT_ONCE).collect().await;
    server.system.restart_process(staying).await;
    let mut progress = Progress::default();
    let mut listeners = Vec::new();
    for (n, (socket, user)) in sockets.into_iter().enumerate() {
        let (sender, receiver) = watch::channel(0);
        progress.0.push(receiver);
        // From a half to one and a half.
        let randomized = 0.5 + n as f64 / count as f64;
        let delays = (DELAYS.0.mul_f64(randomized), DELAYS.1.mul_f64(randomized));
        listeners.push(tokio::spawn(receive_all(user, socket, sender, delays)));
    }

    let mut clock = interval(PAUSE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut requests: Vec<JoinHandle<u64>> = Vec::new();
    for n in 0..MESSAGES {
        clock.tick().await;
        progress.catch_up(n + 1).await;
        let (sender, text) = (senders[n % SENDERS].clone(), format!("{n} of {MESSAGES}"));
        requests.push(tokio::spawn(send_until_stored(sender, text)));
        if n == BEFORE {
            server.system.processes[draining].signal("TERM");
        }
    }
    let status = server.system.wait_for_exit(draining).await;
    assert_eq!(status.code(), Some(0));
    let mut stored = Vec::new();
    for sent in requests {
        stored.push(with_timeout("a response", sent).await.expect("senders fail only by an assertion"));
    }
    stored.sort_unstable();
    assert_eq!(stored, (1..=MESSAGES as u64).collect::<Vec<_>>(), "acked");
    for listener in listeners {
        let received = with_timeout("a client to receive the last message", listener)
            .await
            .expect("clients fail only by an assertion");
        assert_eq!(received.seqs, stored, "lost, duplicate or out of order");
        assert_eq!(received.reconnects, 1, "every client was connected to the draining node");
    }
}

/// Sends a message, retries while the draining node refuses it, and returns its `seq`.
async fn send_until_stored(sender: TestUser, text: String) -> u64 {
    loop {
        let sent = json!({"text": text, "clientId": text});
        let answer = sender.post("/rooms/lobby/messages", &sent).await;
        if answer.status != 503 {
            let stored = answer.expect(201);
            return stored.json()["seq"].as_u64().expect("a seq");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Receives all messages and reconnects when the connection ends.
async fn receive_all(
    user: TestUser,
    mut socket: Socket,
    progress: watch::Sender<usize>,
    (first, longest): (Duration, Duration),
) -> Received {
    let mut received = Received { seqs: Vec::new(), reconnects: 0 };
    loop {
        while socket.is_open_for(REPORT).await {
            received.take(&mut socket);
            progress.send_replace(received.seqs.len());
            if received.seqs.len() >= MESSAGES {
                return received;
            }
        }
        received.take(&mut socket);
        let auth = json!({"pid": socket.pid, "offset": socket.offset});
        let old = socket.pid.clone();
        let mut delay = first;
        socket = loop {
            tokio::time::sleep(delay).await;
            delay = longest.min(delay * 2);
            if let Ok(socket) = user.try_connect(user.handshake().auth(auth.clone())).await {
                break socket;
            }
        };
        assert_eq!(socket.pid, old, "recovered");
        socket.offset = auth["offset"].as_str().map(ToOwned::to_owned);
        received.reconnects += 1;
    }
}

impl Received {
    fn take(&mut self, socket: &mut Socket) {
        self.seqs.extend(socket.received.iter().filter_map(|message| message["seq"].as_u64()));
        socket.clear();
    }
}
