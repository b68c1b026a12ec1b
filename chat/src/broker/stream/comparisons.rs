//! When a node compares the versions of all rooms with the store, because recent changes may have been missed. Pure: time is an argument.
//! Called by [`super::subscriptions`].

use std::time::Duration;

use tokio::time::Instant;

use crate::changes::AT_ONCE;

/// The interval between two comparisons of the versions of all rooms.
const COMPARISON_INTERVAL: Duration = Duration::from_secs(60);

/// The same interval while recent changes may have been missed.
const MISSED_INTERVAL: Duration = Duration::from_secs(5);

/// The time without a read of the recent changes after which one may have been missed. It is shorter than the window of
/// [`crate::changes::Changes::recent`] by the longest time of a write.
pub const READ_GAP: Duration = Duration::from_secs(8);

/// When the versions of all rooms are compared. Pure: time is an argument.
#[derive(Debug)]
pub struct Comparisons {
    last_comparison: Instant,
    /// The begin of the last successful read of the recent changes.
    last_read: Instant,
    /// Whether recent changes may have been missed since the last comparison.
    has_missed: bool,
}

impl Comparisons {
    /// All changes before `now` are read.
    pub fn new(now: Instant) -> Self {
        Self { last_comparison: now, last_read: now, has_missed: false }
    }

    /// Records a read of `count` recent changes that began at `now`.
    pub fn note_read(&mut self, count: usize, now: Instant) {
        self.has_missed |= count >= AT_ONCE || now.saturating_duration_since(self.last_read) >= READ_GAP;
        self.last_read = now;
    }

    /// Whether a comparison is due.
    pub fn is_due(&self, now: Instant) -> bool {
        let interval = if self.has_missed { MISSED_INTERVAL } else { COMPARISON_INTERVAL };
        now.saturating_duration_since(self.last_comparison) >= interval
    }

    /// Records a complete comparison that began at `now`.
    pub fn note_comparison(&mut self, now: Instant) {
        (self.last_comparison, self.has_missed) = (now, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_early_when_recent_changes_may_have_been_missed() {
        // The seconds and sizes of successful reads, and the seconds of the comparisons that follow from them.
        type Case = (&'static str, Vec<(u64, usize)>, &'static [u64]);
        let reads = |seconds: std::ops::Range<u64>| seconds.map(|second| (second, 1));
        let cases: [Case; 5] = [
            ("no gap", reads(1..125).collect(), &[60, 120]),
            ("a gap shorter than the window", reads(1..9).chain(reads(15..70)).collect(), &[60]),
            ("a gap", reads(1..9).chain(reads(30..95)).collect(), &[30, 90]),
            ("two gaps", reads(1..9).chain(reads(20..22)).chain(reads(30..40)).collect(), &[20, 30]),
            ("full reads", (1..13).map(|second| (second, AT_ONCE)).collect(), &[5, 10]),
        ];
        let start = Instant::now();
        for (name, reads, expected) in cases {
            let mut comparisons = Comparisons::new(start);
            let mut compared = Vec::new();
            for (second, count) in reads {
                let now = start + Duration::from_secs(second);
                comparisons.note_read(count, now);
                if comparisons.is_due(now) {
                    comparisons.note_comparison(now);
                    compared.push(second);
                }
            }
            assert_eq!(compared, expected, "{name}");
        }
    }

    #[test]
    fn a_failed_comparison_is_repeated() {
        let start = Instant::now();
        let (gap, later) = (start + Duration::from_secs(20), start + Duration::from_secs(21));
        let mut comparisons = Comparisons::new(start);
        comparisons.note_read(1, gap);
        assert!(comparisons.is_due(gap));
        comparisons.note_read(1, later);
        assert!(comparisons.is_due(later), "none was complete");
        comparisons.note_comparison(later);
        assert!(!comparisons.is_due(later));
    }
}
