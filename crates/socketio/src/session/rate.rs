//! Rate limits for messages that the application does not receive: pings, pongs, CONNECTs, unexpected acks.
//! Pure; each layer counts its own; the time is always an argument.

use std::time::{Duration, Instant};

/// The largest number of pings or pongs in one second. Far above the rate of a heartbeat.
pub(crate) const MAX_HEARTBEATS_PER_SECOND: u32 = 10;

const SECOND: Duration = Duration::from_secs(1);

/// A counter of events per second.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// The largest number per second.
    max: u32,
    /// The start of the current second.
    since: Option<Instant>,
    count: u32,
}

impl RateLimit {
    /// Allows `max` per second.
    pub(crate) fn new(max: u32) -> Self {
        Self { max, since: None, count: 0 }
    }

    /// Counts one event. Returns whether it is within the limit.
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
    fn ten_in_one_second_are_allowed_and_the_eleventh_is_not() {
        let start = Instant::now();
        let mut pace = RateLimit::new(10);
        assert!((0..10).all(|_| pace.allows(start)));
        assert!(!pace.allows(start + Duration::from_millis(999)));
        assert!(pace.allows(start + SECOND), "and the next second is a new one");
    }
}
