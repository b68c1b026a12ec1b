//! Tracks in-flight requests and WebSockets, so that a draining process can complete them: requests first, then WebSockets,
//! which close in random order, so that their clients do not all reconnect at once.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::watch::{Receiver, Sender},
    time::{sleep, timeout},
};

use crate::metric;

/// All in-flight requests and WebSockets. Each guard holds a receiver of a channel. A channel is closed when it has no
/// receivers.
pub(super) struct InFlight {
    requests: Sender<()>,
    /// The current step of closing.
    sockets: Sender<u8>,
    draining: AtomicBool,
}

/// An in-flight request, until dropped.
pub(super) struct RequestGuard(#[expect(dead_code, reason = "held until dropped")] Receiver<()>);

/// A proxied WebSocket, until dropped.
pub(super) struct SocketGuard {
    step: Receiver<u8>,
    /// The step at which it closes.
    close_at: u8,
}

/// How long in-flight requests may take while draining. A pending poll gets its ping as response within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(11);

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

    /// Whether the process drains and accepts no new WebSockets.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn request(&self) -> RequestGuard {
        RequestGuard(self.requests.subscribe())
    }

    pub(super) fn socket(&self) -> SocketGuard {
        let mut random = [0];
        // On failure all sockets close at the same step, which only distributes the load less evenly.
        _ = getrandom::fill(&mut random);
        metric::proxied_websockets().increment(1);
        SocketGuard { step: self.sockets.subscribe(), close_at: 1 + random[0] % STEPS }
    }

    /// Drains requests, then WebSockets. Resolves when all have ended or their time is over.
    pub(super) async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        if timeout(REQUEST_TIMEOUT, self.requests.closed()).await.is_err() {
            tracing::warn!(
                requests = self.requests.receiver_count(),
                "requests did not end within the drain timeout: closing WebSockets"
            );
        }
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
