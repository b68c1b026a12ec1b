//! Waits for clients that lag but read, so that a burst does not close them as slow. The sender of the burst
//! waits by its [`BackpressureToken`]. All senders wait only for clients whose queue one more batch could
//! fill. Used by the shard for each batch.

use std::{sync::Arc, time::Duration};

use crate::{
    backpressure::BackpressureToken,
    connection::send_queue::{Pressure, SendQueue},
};

/// The interval between two checks of a lagging client.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// A client without progress in this number of checks is not waited for until it makes progress.
const MAX_IDLE_CHECKS: u8 = 5;

/// The largest number of checks per wait, for clients that read, but more slowly than others send.
const MAX_CHECKS: usize = 20;

/// The clients that lag after one batch.
#[derive(Debug, Default)]
pub(super) struct LaggingClients {
    /// Clients that lag because of events with a token, by token.
    with_token: Vec<(BackpressureToken, Vec<Arc<SendQueue>>)>,
    /// Clients that lag because of events without a token.
    others: Vec<Arc<SendQueue>>,
}

struct LaggingClient {
    send_queue: Arc<SendQueue>,
    dequeued: u64,
    idle_checks: u8,
}

impl LaggingClients {
    /// Adds a client that lags.
    pub(super) fn add(&mut self, send_queue: Arc<SendQueue>, token: Option<&BackpressureToken>) {
        let Some(token) = token else { return self.others.push(send_queue) };
        // A batch has few senders, and the events of one sender are adjacent.
        match self.with_token.iter_mut().rev().find(|(other, _)| other.is(token)) {
            Some((_, send_queues)) => send_queues.push(send_queue),
            None => self.with_token.push((token.clone(), vec![send_queue])),
        }
    }

    /// Waits for the clients in `others`, then for all clients whose queue one more batch could fill.
    /// Meanwhile each token is held until its clients have caught up. Each wait takes at most 40 ms.
    pub(super) async fn catch_up(self) {
        let Self { with_token, others } = self;
        let mut all = Vec::new();
        for (token, send_queues) in with_token {
            all.extend(send_queues.iter().cloned());
            actix_rt::spawn(async move {
                wait_for(send_queues, Pressure::Behind).await;
                drop(token);
            });
        }
        wait_for(others, Pressure::Behind).await;
        wait_for(all, Pressure::Critical).await;
    }
}

/// Waits until no queue is under this pressure, or those that are make no progress, at most 40 ms.
async fn wait_for(mut send_queues: Vec<Arc<SendQueue>>, pressure: Pressure) {
    send_queues.sort_by_key(Arc::as_ptr);
    send_queues.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let client = |send_queue: Arc<SendQueue>| {
        send_queue.lag(pressure).map(|dequeued| LaggingClient { send_queue, dequeued, idle_checks: 0 })
    };
    let mut clients: Vec<LaggingClient> = send_queues.into_iter().filter_map(client).collect();
    for _ in 0..MAX_CHECKS {
        if clients.is_empty() {
            return;
        }
        if pressure == Pressure::Critical {
            clients.iter().for_each(|client| client.send_queue.record_global_wait());
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
        clients.retain_mut(|client| client.should_wait(pressure));
    }
}

impl LaggingClient {
    fn should_wait(&mut self, pressure: Pressure) -> bool {
        let Some(dequeued) = self.send_queue.lag(pressure) else { return false };
        self.idle_checks = if dequeued == self.dequeued { self.idle_checks + 1 } else { 0 };
        self.dequeued = dequeued;
        let is_stuck = self.idle_checks >= MAX_IDLE_CHECKS;
        if is_stuck {
            self.send_queue.give_up();
        }
        !is_stuck
    }
}

#[cfg(test)]
#[path = "backpressure_tests.rs"]
mod tests;
