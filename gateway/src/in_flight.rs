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

use crate::metric;

/// All in-flight requests that began before the drain, and all WebSockets. Each guard holds a receiver of a channel. A channel
/// is closed when it has no receivers.
pub(crate) struct InFlight {
    requests: Sender<()>,
    /// The current step of closing.
    sockets: Sender<u8>,
    /// Whether no new WebSockets and sessions are accepted, and connections close after their response.
    draining: AtomicBool,
}

/// An in-flight request, until all clones are dropped. `None` for a request that began during the drain.
#[derive(Clone, Default)]
pub(crate) struct RequestGuard(#[expect(dead_code, reason = "held until dropped")] Option<Receiver<()>>);

/// A proxied WebSocket, until dropped.
pub(crate) struct SocketGuard {
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
    pub(crate) fn new() -> Self {
        Self { requests: Sender::new(()), sockets: Sender::new(0), draining: AtomicBool::new(false) }
    }

    /// Whether no new WebSockets and sessions are accepted, and connections close after their response.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How long a poll waits at its node. `None` before the drain: until the node answers it.
    pub(crate) fn poll_limit(&self) -> Option<Duration> {
        self.is_draining().then_some(POLL_LIMIT)
    }

    /// Begins a request. Call it when its head was read, before any await.
    pub(crate) fn request(&self) -> RequestGuard {
        RequestGuard((!self.is_draining()).then(|| self.requests.subscribe()))
    }

    pub(crate) fn socket(&self) -> SocketGuard {
        let mut random = [0];
        // On failure all sockets close at the same step, which only distributes the load less evenly.
        _ = getrandom::fill(&mut random);
        metric::proxied_websockets().increment(1);
        SocketGuard { step: self.sockets.subscribe(), close_at: 1 + random[0] % STEPS }
    }

    /// Begins the drain.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Begins the drain, if it has not begun. Resolves when all requests that began before it have ended or have taken
    /// `within`.
    pub(crate) async fn drain_requests(&self, within: Duration) {
        self.drain();
        if timeout(within, self.requests.closed()).await.is_err() {
            tracing::warn!(
                requests = self.requests.receiver_count(),
                "requests did not end within the drain timeout: closing WebSockets"
            );
        }
    }

    /// Closes all WebSockets. Resolves when all have ended or their time is over.
    pub(crate) async fn close_sockets(&self) {
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

impl SocketGuard {
    /// Resolves when this WebSocket must close.
    pub(crate) async fn close_requested(&mut self) {
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
