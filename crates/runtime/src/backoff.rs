//! The wait between two attempts to reach something that is unavailable.

use std::time::Duration;

/// An exponential backoff with jitter. Each delay is twice the one before, up to a maximum. Half of a delay is fixed and half is
/// random, so that the processes of a cluster do not retry at the same time.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays from `first` to `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// The next delay: between half of it and all of it.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        // Without random bytes the delay has its full length.
        let jitter = getrandom::u32().unwrap_or(u32::MAX);
        delay / 2 + (delay / 2).mul_f64(f64::from(jitter) / f64::from(u32::MAX))
    }

    /// Waits for the next delay.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }

    /// Starts again with the first delay. Call it after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_start_again_after_a_reset() {
        let (first, max) = (Duration::from_millis(100), Duration::from_millis(350));
        let mut backoff = Backoff::new(first, max);
        for full in [100, 200, 350, 350].map(Duration::from_millis) {
            let delay = backoff.next_delay();
            assert!(full / 2 <= delay && delay <= full, "{delay:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= first);
    }
}
