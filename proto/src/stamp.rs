//! Wall-clock timestamps for display. Ordering uses `seq` and `offset`, never timestamps.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};

/// Maximum time by which a timestamp may be ahead of the server's clock, in milliseconds.
const MAX_AHEAD_MS: u64 = 3_600_000;

/// Milliseconds since the Unix epoch, formatted as RFC 3339 in UTC with milliseconds (`2026-01-31T12:00:00.000Z`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The current wall-clock time.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The current wall-clock time, or `last` if that is later. So timestamps do not decrease when the clock is set back.
    /// [`Timestamp::after`] describes the bound.
    pub fn now_after(last: Self) -> Self {
        let now = Self::now();
        now.after(last, now)
    }

    /// The later of this time and `last`, where `last` counts at most one hour after `now`. So a clock that was wrong for a moment
    /// does not determine later timestamps for years.
    pub fn after(self, last: Self, now: Self) -> Self {
        self.max(last.min(now.latest_after()))
    }

    /// Whether this time is more than one hour after `now`. Only a wrong clock produces such a timestamp.
    pub fn is_ahead_of(self, now: Self) -> bool {
        self > now.latest_after()
    }

    /// One hour after the current time: the latest timestamp that is accepted.
    pub fn latest() -> Self {
        Self::now().latest_after()
    }

    fn latest_after(self) -> Self {
        Self(self.0.saturating_add(MAX_AHEAD_MS))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The last millisecond of the year 9999. RFC 3339 cannot represent later times.
        const END: u64 = 253_402_300_799_999;
        let at = UNIX_EPOCH + Duration::from_millis(self.0.min(END));
        humantime::format_rfc3339_millis(at).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_utc_with_milliseconds() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_767_225_600_007).to_string(), "2026-01-01T00:00:00.007Z");
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn timestamps_do_not_decrease_and_a_clock_ahead_is_bounded_to_one_hour() {
        const HOUR: u64 = 3_600_000;
        let after = |now, last| Timestamp(now).after(Timestamp(last), Timestamp(now)).0;
        for (now, last, expected) in [
            (HOUR, 0, HOUR),
            (HOUR, HOUR, HOUR),
            (HOUR, HOUR + 1, HOUR + 1),
            (HOUR, 2 * HOUR, 2 * HOUR),
            (HOUR, 2 * HOUR + 1, 2 * HOUR),
            (HOUR, u64::MAX, 2 * HOUR),
            (u64::MAX, 0, u64::MAX),
        ] {
            assert_eq!(after(now, last), expected, "{now} {last}");
        }
        assert!(Timestamp(HOUR + 1).is_ahead_of(Timestamp(0)) && !Timestamp(HOUR).is_ahead_of(Timestamp(0)));
        assert!(Timestamp::now_after(Timestamp(0)) > Timestamp(0));
        let now = Timestamp::now();
        assert!(
            !Timestamp::now_after(Timestamp(u64::MAX)).is_ahead_of(Timestamp::now()) && now > Timestamp(0)
        );
    }
}
