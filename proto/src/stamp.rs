//! Wall-clock time as it is shown. Nothing is ever ordered by it: `seq` and `offset` are for that.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};

/// How far a timestamp may be ahead of the server's clock, in milliseconds.
const MAX_AHEAD_MS: u64 = 3_600_000;

/// Milliseconds since the Unix epoch, shown as RFC 3339 in UTC with milliseconds (`2026-01-31T12:00:00.000Z`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The wall clock's reading.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The wall clock's reading, but not before `last`: a clock that was set back does not turn time around. See
    /// [`Timestamp::after`] for the bound.
    pub fn now_after(last: Self) -> Self {
        let now = Self::now();
        now.after(last, now)
    }

    /// This time, or `last` when that is later, but at most one hour after `now`. A clock that was years ahead for a moment
    /// does not date everything that follows.
    pub fn after(self, last: Self, now: Self) -> Self {
        self.max(last.min(now.latest_after()))
    }

    /// Whether this time is so far after `now` that only a wrong clock can have made it.
    pub fn is_ahead_of(self, now: Self) -> bool {
        self > now.latest_after()
    }

    /// The latest time that a right clock can have given by now.
    pub fn latest() -> Self {
        Self::now().latest_after()
    }

    fn latest_after(self) -> Self {
        Self(self.0.saturating_add(MAX_AHEAD_MS))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The last millisecond of the year 9999, beyond which RFC 3339 has no form.
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
    fn shows_utc_with_milliseconds() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_767_225_600_007).to_string(), "2026-01-01T00:00:00.007Z");
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_clock_set_back_does_not_turn_time_around_and_one_set_forward_is_not_followed_for_years() {
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
