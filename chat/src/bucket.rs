//! Token buckets. Pure: time is an argument. Each client has a bucket for its messages; HTTP posts have one bucket per user.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// A rate limit with a burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens added per second.
    pub per_second: f64,
    /// Capacity of the bucket in tokens.
    pub burst: f64,
}

/// The tokens of one key at one time.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Instant,
}

/// Buckets by key, all of one rate. Full buckets are removed.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    by_key: HashMap<String, Bucket>,
    prune_at: usize,
}

impl Rate {
    /// `per_second` tokens per second, and at most `burst` at once.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: f64::from(per_second), burst: f64::from(burst) }
    }
}

impl Bucket {
    /// A full bucket.
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, at: now }
    }

    /// Takes one token. The error is the time until the next token.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate.per_second))
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate.per_second).min(self.rate.burst);
        self.at = self.at.max(now);
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.rate.burst
    }
}

impl Buckets {
    /// Minimum number of buckets at which full ones are removed.
    const MIN_PRUNE: usize = 1024;

    /// An empty set of buckets.
    pub fn new(rate: Rate) -> Self {
        Self { rate, by_key: HashMap::new(), prune_at: Self::MIN_PRUNE }
    }

    /// Takes one token from the bucket of `key`. The error is the time until the next token.
    pub fn take(&mut self, key: &str, now: Instant) -> Result<(), Duration> {
        if self.by_key.len() >= self.prune_at {
            self.by_key.retain(|_, bucket| !bucket.is_full(now));
            // Twice the number of remaining buckets, so that pruning has a constant amortized cost per call.
            self.prune_at = (2 * self.by_key.len()).max(Self::MIN_PRUNE);
        }
        let rate = self.rate;
        self.by_key.entry(key.to_owned()).or_insert_with(|| Bucket::full(rate, now)).take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_passes_and_then_take_returns_the_delay() {
        let now = Instant::now();
        let mut bucket = Bucket::full(Rate::new(10, 20), now);
        assert!((0..20).all(|_| bucket.take(now).is_ok()));
        let wait = bucket.take(now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(bucket.take(now + wait).is_ok());
        assert!(bucket.take(now + wait).is_err());
    }

    #[test]
    fn long_pause_allows_one_burst() {
        let now = Instant::now();
        let mut bucket = Bucket::full(Rate::new(10, 2), now);
        let later = now + Duration::from_secs(3600);
        assert_eq!((0..5).filter(|_| bucket.take(later).is_ok()).count(), 2);
    }

    #[test]
    fn clock_that_goes_backwards_adds_no_tokens() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::full(Rate::new(1, 1), now);
        assert!(bucket.take(now).is_ok());
        assert!(bucket.take(now - Duration::from_secs(5)).is_err());
    }

    #[test]
    fn keys_have_separate_tokens_and_full_buckets_are_removed() {
        let now = Instant::now();
        let mut buckets = Buckets::new(Rate::new(1, 1));
        assert!(buckets.take("alice", now).is_ok());
        assert!(buckets.take("alice", now).is_err());
        assert!(buckets.take("bob", now).is_ok());
        let later = now + Duration::from_secs(60);
        assert!((0..5000).all(|n| buckets.take(&n.to_string(), later).is_ok()));
        let latest = later + Duration::from_secs(60);
        buckets.take("carol", latest).unwrap();
        assert!((0..5000).all(|n| buckets.take(&format!("x{n}"), latest + Duration::from_secs(n)).is_ok()));
        assert!(buckets.by_key.len() < 2 * Buckets::MIN_PRUNE, "{}", buckets.by_key.len());
    }
}
