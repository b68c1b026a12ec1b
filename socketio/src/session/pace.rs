//! How often a client may send what asks for nothing but an answer: pings and pongs. Pure; kept by the session and by the WebSocket
//! pipe, each for its own layer; time is always an argument.

use std::time::{Duration, Instant};

/// So many in one second: far above what a heartbeat needs.
const MAX: u32 = 10;

const SECOND: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The second that is being counted.
    since: Option<Instant>,
    count: u32,
}

impl Pace {
    /// Counts one more; answers whether it is still within the limit.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let is_same = self.since.is_some_and(|since| now.saturating_duration_since(since) < SECOND);
        if !is_same {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        self.count <= MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_in_a_second_pass_and_the_eleventh_does_not() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert!((0..MAX).all(|_| pace.allows(start)));
        assert!(!pace.allows(start + Duration::from_millis(999)));
        assert!(pace.allows(start + SECOND), "and the next second is a new one");
    }
}
