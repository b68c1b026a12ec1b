//! Waits for clients that are behind but do read, so that a burst is not taken for their slowness: whoever sent the batch
//! holds the next one back meanwhile. Called by the shard after each batch.

use std::{sync::Arc, time::Duration};

use crate::link::outbox::Outbox;

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(2);

/// After so many looks without any move a client is not waited for until it moves again.
const PATIENCE: u8 = 5;

/// The most looks: a client that reads, but slower than everybody else speaks, is not waited for beyond them.
const LOOKS: usize = 20;

struct Laggard {
    outbox: Arc<Outbox>,
    taken: u64,
    looks: u8,
}

/// Waits until none of `outboxes` is more than half full, or those that are do not move, for 40 ms at most.
pub(super) async fn pace(mut outboxes: Vec<Arc<Outbox>>) {
    outboxes.sort_by_key(Arc::as_ptr);
    outboxes.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let laggard = |outbox: Arc<Outbox>| outbox.lag().map(|taken| Laggard { outbox, taken, looks: 0 });
    let mut laggards: Vec<Laggard> = outboxes.into_iter().filter_map(laggard).collect();
    for _ in 0..LOOKS {
        if laggards.is_empty() {
            return;
        }
        tokio::time::sleep(LOOK).await;
        laggards.retain_mut(Laggard::is_worth_waiting_for);
    }
}

impl Laggard {
    fn is_worth_waiting_for(&mut self) -> bool {
        let Some(taken) = self.outbox.lag() else { return false };
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
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::*;
    use crate::link::{budget::Budget, outbox::Limits};

    fn crowded() -> Arc<Outbox> {
        let budget = Arc::new(Budget::new(10_000));
        let limits = Limits { bytes: 1000, frames: 4, stall: Duration::from_secs(5), budget };
        let outbox = Arc::new(Outbox::new(limits));
        for _ in 0..3 {
            outbox.push(Bytes::from_static(b"x"), false, Instant::now());
        }
        outbox
    }

    #[actix_rt::test]
    async fn a_client_that_reads_is_waited_for() {
        let outbox = crowded();
        let waiting = pace(vec![outbox.clone(), outbox.clone()]);
        let reading = async { outbox.take_if(|_| true) };
        futures_util::join!(waiting, reading);
        assert_eq!(outbox.lag(), None, "the wait ended because there is room");
    }

    #[actix_rt::test]
    async fn a_client_that_does_not_read_is_given_up_until_it_moves() {
        let outbox = crowded();
        pace(vec![outbox.clone()]).await;
        assert_eq!(outbox.lag(), None, "nobody waits for it any more");
        outbox.take_if(|_| true);
        outbox.push(Bytes::from_static(b"x"), false, Instant::now());
        assert!(outbox.lag().is_some());
    }
}
