//! Waits for clients that are behind but do read, so that a burst is not taken for their slowness. Who sent the burst waits,
//! by its [`Pacer`]; all others only where one more batch could be too much for the client. Used by the shard for each batch.

use std::{sync::Arc, time::Duration};

use crate::{
    link::outbox::{Outbox, Pressure},
    pacer::Pacer,
};

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(2);

/// After so many looks without any move a client is not waited for until it moves again.
const PATIENCE: u8 = 5;

/// The most looks: a client that reads, but slower than everybody else speaks, is not waited for beyond them.
const LOOKS: usize = 20;

/// The clients that fell behind with one batch.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// With what has a pacer.
    paced: Vec<(Pacer, Vec<Arc<Outbox>>)>,
    /// With what has none.
    others: Vec<Arc<Outbox>>,
}

struct Laggard {
    outbox: Arc<Outbox>,
    taken: u64,
    looks: u8,
}

impl Crowd {
    /// A client is behind.
    pub(super) fn add(&mut self, outbox: Arc<Outbox>, pacer: Option<&Pacer>) {
        let Some(pacer) = pacer else { return self.others.push(outbox) };
        // A batch holds few senders, and those of one sender follow each other.
        match self.paced.iter_mut().rev().find(|(other, _)| other.is(pacer)) {
            Some((_, outboxes)) => outboxes.push(outbox),
            None => self.paced.push((pacer.clone(), vec![outbox])),
        }
    }

    /// Keeps each pacer until its clients have caught up, 40 ms at most, beside what this waits for: the clients of what has no
    /// pacer, likewise, and then all whose outboxes one more batch could fill.
    pub(super) async fn catch_up(self) {
        let Self { paced, others } = self;
        let mut all = Vec::new();
        for (pacer, outboxes) in paced {
            all.extend(outboxes.iter().cloned());
            actix_rt::spawn(async move {
                pace(outboxes, Pressure::Behind).await;
                drop(pacer);
            });
        }
        pace(others, Pressure::Behind).await;
        pace(all, Pressure::Critical).await;
    }
}

/// Waits until none of `outboxes` is under this pressure, or those that are do not move, for 40 ms at most.
async fn pace(mut outboxes: Vec<Arc<Outbox>>, pressure: Pressure) {
    outboxes.sort_by_key(Arc::as_ptr);
    outboxes.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let laggard = |outbox: Arc<Outbox>| outbox.lag(pressure).map(|taken| Laggard { outbox, taken, looks: 0 });
    let mut laggards: Vec<Laggard> = outboxes.into_iter().filter_map(laggard).collect();
    for _ in 0..LOOKS {
        if laggards.is_empty() {
            return;
        }
        if pressure == Pressure::Critical {
            laggards.iter().for_each(|laggard| laggard.outbox.hold());
        }
        tokio::time::sleep(LOOK).await;
        laggards.retain_mut(|laggard| laggard.is_worth_waiting_for(pressure));
    }
}

impl Laggard {
    fn is_worth_waiting_for(&mut self, pressure: Pressure) -> bool {
        let Some(taken) = self.outbox.lag(pressure) else { return false };
        self.looks = if taken == self.taken { self.looks + 1 } else { 0 };
        self.taken = taken;
        let is_stuck = self.looks >= PATIENCE;
        if is_stuck {
            self.outbox.give_up();
        }
        !is_stuck
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
