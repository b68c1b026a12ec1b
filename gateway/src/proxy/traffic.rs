//! What is under way through the proxy, so that a process that ends can let it finish: requests first, then WebSockets, which
//! are told to end in an order of chance, so that their clients do not all come back at once.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::watch::{Receiver, Sender},
    time::{sleep, timeout},
};

use crate::metric;

/// Everything under way. Who is has a receiver of the channel; the channel knows when there is none any more.
pub(super) struct Traffic {
    requests: Sender<()>,
    /// The step of closing that has been reached.
    sockets: Sender<u8>,
    draining: AtomicBool,
}

/// A request under way, until dropped.
pub(super) struct Request(#[expect(dead_code, reason = "it only has to exist")] Receiver<()>);

/// A WebSocket under way, until dropped.
pub(super) struct Socket {
    step: Receiver<u8>,
    /// The step at which it ends.
    last: u8,
}

/// How long requests may go on when the process ends. A poll that waits is answered with its ping within it.
const REQUESTS: Duration = Duration::from_secs(11);

/// WebSockets end in this many steps,
const STEPS: u8 = 20;

/// with so much time between two,
const PAUSE: Duration = Duration::from_millis(100);

/// and so much at the end.
const LAST: Duration = Duration::from_secs(1);

impl Traffic {
    pub(super) fn new() -> Self {
        Self { requests: Sender::new(()), sockets: Sender::new(0), draining: AtomicBool::new(false) }
    }

    /// Whether no new WebSockets are wanted.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn request(&self) -> Request {
        Request(self.requests.subscribe())
    }

    pub(super) fn socket(&self) -> Socket {
        let mut chance = [0];
        // Without chance they would all have the same turn, which is only less gentle.
        _ = getrandom::fill(&mut chance);
        metric::spliced().increment(1);
        Socket { step: self.sockets.subscribe(), last: 1 + chance[0] % STEPS }
    }

    /// Resolves once everything has ended, or had its time.
    pub(super) async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        if timeout(REQUESTS, self.requests.closed()).await.is_err() {
            tracing::warn!(requests = self.requests.receiver_count(), "requests did not end in time");
        }
        for step in 1..=STEPS {
            self.sockets.send_replace(step);
            if self.sockets.is_closed() {
                return;
            }
            sleep(PAUSE).await;
        }
        if timeout(LAST, self.sockets.closed()).await.is_err() {
            tracing::warn!(sockets = self.sockets.receiver_count(), "some WebSockets did not end in time");
        }
    }
}

impl Socket {
    /// Resolves when it is this one's turn to end.
    pub(super) async fn called(&mut self) {
        let last = self.last;
        // An error says that the proxy itself is gone.
        _ = self.step.wait_for(|step| *step >= last).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        metric::spliced().decrement(1);
    }
}
