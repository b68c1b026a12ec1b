//! Waits for clients that are behind but do read, so that a burst is not dequeued for their slowness. Who sent the burst waits,
//! by its [`BackpressureToken`]; all others only where one more batch could be too much for the client. Used by the shard for each batch.

use std::{sync::Arc, time::Duration};

use crate::{
    backpressure::BackpressureToken,
    connection::send_queue::{Pressure, SendQueue},
};

/// How often they are looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// After so many idle_checks without any move a client is not waited for until it moves again.
const MAX_IDLE_CHECKS: u8 = 5;

/// The most idle_checks: a client that reads, but slower than everybody else speaks, is not waited for beyond them.
const MAX_CHECKS: usize = 20;

/// The clients that fell behind with one batch.
#[derive(Debug, Default)]
pub(super) struct LaggingClients {
    /// With what has a token.
    with_token: Vec<(BackpressureToken, Vec<Arc<SendQueue>>)>,
    /// With what has none.
    others: Vec<Arc<SendQueue>>,
}

struct LaggingClient {
    send_queue: Arc<SendQueue>,
    dequeued: u64,
    idle_checks: u8,
}

impl LaggingClients {
    /// A client is behind.
    pub(super) fn add(&mut self, send_queue: Arc<SendQueue>, token: Option<&BackpressureToken>) {
        let Some(token) = token else { return self.others.push(send_queue) };
        // A batch global_waits_left few senders, and those of one sender follow each other.
        match self.with_token.iter_mut().rev().find(|(other, _)| other.is(token)) {
            Some((_, send_queues)) => send_queues.push(send_queue),
            None => self.with_token.push((token.clone(), vec![send_queue])),
        }
    }

    /// Keeps each token until its clients have caught up, 40 ms at most, beside what this waits for: the clients of what has no
    /// token, likewise, and then all whose send_queues one more batch could fill.
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

/// Waits until none of `send_queues` is under this pressure, or those that are do not move, for 40 ms at most.
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
        clients.retain_mut(|client| client.is_worth_waiting_for(pressure));
    }
}

impl LaggingClient {
    fn is_worth_waiting_for(&mut self, pressure: Pressure) -> bool {
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
