//! Tracks in-flight requests and WebSockets, so that a draining process can complete them: requests first, then WebSockets,
//! which close in random order, so that their clients do not all reconnect at once. Requests that arrive during the drain are
//! answered as well: polls within [`POLL_LIMIT`], and each closes its connection, so that the client's next request reaches
//! another process. The drain waits only for the requests that began before it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::watch::{Receiver, Sender},
    time::{sleep, timeout},
};

use super::Proxy;
use crate::metric;

/// All in-flight requests that began before the drain, and all WebSockets. Each guard holds a receiver of a channel. A channel
/// is closed when it has no receivers.
pub(super) struct InFlight {
    requests: Sender<()>,
    /// The current step of closing.
    sockets: Sender<u8>,
    /// Whether no new WebSockets and sessions are accepted, and connections close after their response.
    draining: AtomicBool,
}

/// An in-flight request, until all clones are dropped. `None` for a request that began during the drain.
#[derive(Clone)]
pub(super) struct RequestGuard(#[expect(dead_code, reason = "held until dropped")] Option<Receiver<()>>);

/// A proxied WebSocket, until dropped.
pub(super) struct SocketGuard {
    step: Receiver<u8>,
    /// The step at which it closes.
    close_at: u8,
}

/// How long a poll that begins during the drain waits at its node. It is answered before the HTTP server ends.
const POLL_LIMIT: Duration = Duration::from_millis(1_500);

/// The number of steps in which WebSockets close.
const STEPS: u8 = 20;

/// The time between two steps.
const STEP_INTERVAL: Duration = Duration::from_millis(100);

/// How long the last WebSockets may take to close.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);

impl InFlight {
    pub(super) fn new() -> Self {
        Self { requests: Sender::new(()), sockets: Sender::new(0), draining: AtomicBool::new(false) }
    }

    /// Whether no new WebSockets and sessions are accepted, and connections close after their response.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How long a poll waits at its node. `None` before the drain: until the node answers it.
    pub(super) fn poll_limit(&self) -> Option<Duration> {
        self.is_draining().then_some(POLL_LIMIT)
    }

    /// Begins a request. Call it before its body is read.
    pub(super) fn request(&self) -> RequestGuard {
        RequestGuard((!self.is_draining()).then(|| self.requests.subscribe()))
    }

    pub(super) fn socket(&self) -> SocketGuard {
        let mut random = [0];
        // On failure all sockets close at the same step, which only distributes the load less evenly.
        _ = getrandom::fill(&mut random);
        metric::proxied_websockets().increment(1);
        SocketGuard { step: self.sockets.subscribe(), close_at: 1 + random[0] % STEPS }
    }

    /// Begins the drain.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Begins the drain, if it has not begun. Resolves when all requests that began before it have ended or have taken
    /// `within`.
    pub(super) async fn drain_requests(&self, within: Duration) {
        self.drain();
        if timeout(within, self.requests.closed()).await.is_err() {
            tracing::warn!(
                requests = self.requests.receiver_count(),
                "requests did not end within the drain timeout: closing WebSockets"
            );
        }
    }

    /// Closes all WebSockets. Resolves when all have ended or their time is over.
    pub(super) async fn close_sockets(&self) {
        for step in 1..=STEPS {
            self.sockets.send_replace(step);
            if self.sockets.is_closed() {
                return;
            }
            sleep(STEP_INTERVAL).await;
        }
        if timeout(SOCKET_TIMEOUT, self.sockets.closed()).await.is_err() {
            tracing::warn!(
                sockets = self.sockets.receiver_count(),
                "some WebSockets did not close within the drain timeout"
            );
        }
    }
}

impl Proxy {
    /// Accepts no new sockets from now on. Other requests are answered, also the polls of open sessions, and their
    /// connections are closed.
    pub fn drain(&self) {
        self.0.in_flight.drain();
    }

    /// Begins the drain, if it has not begun, and waits for the requests that began before it, at most `within`. A pending
    /// poll gets a ping as response within the ping interval of its node.
    pub async fn drain_requests(&self, within: Duration) {
        self.0.in_flight.drain_requests(within).await;
    }

    /// Closes the WebSockets in steps. Call it after [`Proxy::drain_requests`]. Takes at most 3 s.
    pub async fn close_sockets(&self) {
        self.0.in_flight.close_sockets().await;
    }
}

impl SocketGuard {
    /// Resolves when this WebSocket must close.
    pub(super) async fn close_requested(&mut self) {
        let close_at = self.close_at;
        // An error means that the proxy was dropped.
        _ = self.step.wait_for(|step| *step >= close_at).await;
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        metric::proxied_websockets().decrement(1);
    }
}
