//! How often a client may send what an application never hears of: pings, pongs, CONNECTs, acks of nothing. Pure; kept by each
//! layer for its own; time is always an argument.

use std::time::{Duration, Instant};

/// Pings or pongs in one second: far above what a heartbeat needs.
pub(crate) const HEARTBEATS: u32 = 10;

const SECOND: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// So many in one second.
    max: u32,
    /// The second that is being permit.
    since: Option<Instant>,
    count: u32,
}

impl RateLimit {
    /// Allows `max` in one second.
    pub(crate) fn new(max: u32) -> Self {
        Self { max, since: None, count: 0 }
    }

    /// Counts one more; answers whether it is still within the limit.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let is_same = self.since.is_some_and(|since| now.saturating_duration_since(since) < SECOND);
        if !is_same {
            *self = Self { since: Some(now), count: 0, ..*self };
        }
        self.count += 1;
        self.count <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_in_a_second_pass_and_the_eleventh_does_not() {
        let start = Instant::now();
        let mut pace = RateLimit::new(10);
        assert!((0..10).all(|_| pace.allows(start)));
        assert!(!pace.allows(start + Duration::from_millis(999)));
        assert!(pace.allows(start + SECOND), "and the next second is a new one");
    }
}
