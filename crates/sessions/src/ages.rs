//! A clock for measuring ages: the wall clock, except while it contradicts the monotonic clock. Deletions by age use this clock, because
//! a wall clock that is years ahead for a moment makes all data old enough to be deleted.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use proto::Timestamp;

/// The maximum drift of the wall clock from the monotonic clock between two readings, in milliseconds (5 min).
const TOLERANCE: i64 = 300_000;

/// The time for which the wall clock must run steadily after a jump until it is trusted again, in milliseconds (1 h).
const SETTLING: u64 = 3_600_000;

/// The earliest time that a correct clock can show, in milliseconds since 1970: 2025-01-01. A machine without a battery shows an earlier
/// time until its clock is synchronized.
pub const EARLIEST: u64 = 1_735_689_600_000;

static CLOCK: Mutex<AgeClock> = Mutex::new(AgeClock { start: None, trusted: Trust::Unread, jumped: None });

/// The state of the clock of one process.
struct AgeClock {
    /// The zero of the monotonic clock. `None` before the first reading.
    start: Option<Instant>,
    trusted: Trust,
    /// The difference between the clocks since a jump, and the monotonic time of the jump, both in milliseconds. `None` when no jump
    /// is being observed.
    jumped: Option<(i64, u64)>,
}

/// The difference between the wall clock and the monotonic clock, in milliseconds.
#[derive(Clone, Copy)]
enum Trust {
    /// The clock was not read yet.
    Unread,
    /// The wall clock was not plausible at start.
    Nothing,
    /// The last plausible difference.
    Offset(i64),
}

/// The time for measuring ages: the wall clock. For an hour after a jump of the wall clock by more than 5 min it is the time before the
/// jump, advanced by the monotonic clock.
pub fn now() -> Timestamp {
    read().0
}

/// Like [`now`], but `None` while the wall clock is not plausible. Data may be deleted by age only when this returns a time.
pub fn settled() -> Option<Timestamp> {
    let (now, is_settled) = read();
    is_settled.then_some(now)
}

/// The upper bound of stored timestamps: one hour after now ([`Timestamp::latest`]), or the maximum while the wall clock is not plausible. A
/// later timestamp is of a wrong clock.
pub fn latest() -> Timestamp {
    settled().map_or(Timestamp(u64::MAX), |_| Timestamp::latest())
}

/// What is wrong with the wall clock, as a sentence without its subject "clock". `None` when nothing is.
pub fn problem() -> Option<String> {
    read();
    clock().problem(Timestamp::now())
}

/// Compares the wall clock with the time of the last write before this start. When the clock is more than 5 min before that time, or
/// more than an hour after it, it is not plausible until it has run steadily for an hour. Call it at start.
pub fn check_last_write(last: Timestamp) {
    let now = i64::try_from(Timestamp::now().0).unwrap_or(i64::MAX);
    let passed = now.saturating_sub(i64::try_from(last.0).unwrap_or(i64::MAX));
    let longest = i64::try_from(SETTLING).unwrap_or(i64::MAX);
    if !(-TOLERANCE..=longest).contains(&passed) {
        *clock() = AgeClock { start: None, trusted: Trust::Nothing, jumped: None };
    }
}

fn clock() -> MutexGuard<'static, AgeClock> {
    CLOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read() -> (Timestamp, bool) {
    let mut clock = clock();
    let passed = clock.start.get_or_insert_with(Instant::now).elapsed().as_millis();
    clock.at(Timestamp::now(), u64::try_from(passed).unwrap_or(u64::MAX))
}

impl AgeClock {
    /// The time at a reading of both clocks, and whether the wall clock is plausible. `passed` is the monotonic time in milliseconds.
    fn at(&mut self, wall: Timestamp, passed: u64) -> (Timestamp, bool) {
        let since_start = i64::try_from(passed).unwrap_or(i64::MAX);
        let offset = i64::try_from(wall.0).unwrap_or(i64::MAX).saturating_sub(since_start);
        let is_near = |other: i64| offset.abs_diff(other) <= TOLERANCE.unsigned_abs();
        match self.trusted {
            // The first plausible time is trusted, so that a correction just after the start takes effect at once.
            Trust::Unread if wall.0 < EARLIEST => return (wall, false),
            Trust::Unread => return self.settle(wall, offset),
            Trust::Offset(trusted) if is_near(trusted) => return self.settle(wall, offset),
            _ => {}
        }
        match self.jumped {
            Some((jumped, seen)) if is_near(jumped) => {
                if passed.saturating_sub(seen) >= SETTLING {
                    return self.settle(wall, offset);
                }
            }
            _ => self.jumped = Some((offset, passed)),
        }
        match self.trusted {
            Trust::Offset(trusted) => {
                (Timestamp(trusted.saturating_add(since_start).try_into().unwrap_or_default()), false)
            }
            _ => (wall, false),
        }
    }

    fn problem(&self, wall: Timestamp) -> Option<String> {
        match (self.trusted, self.jumped) {
            (Trust::Unread | Trust::Nothing, _) if wall.0 < EARLIEST => {
                Some("shows a time before 2025: synchronize it (NTP)".to_owned())
            }
            (Trust::Offset(trusted), Some((jumped, _))) => Some(format!(
                "has jumped by {} s: synchronize it (NTP). Until it has run steadily for an hour, ages are measured with the monotonic \
                 clock and nothing is deleted for its age",
                jumped.saturating_sub(trusted) / 1_000
            )),
            _ => None,
        }
    }

    fn settle(&mut self, wall: Timestamp, offset: i64) -> (Timestamp, bool) {
        (self.trusted, self.jumped) = (Trust::Offset(offset), None);
        (wall, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_780_000_000_000;
    const MINUTE: u64 = 60_000;
    const YEARS: u64 = 12 * 365 * 24 * 60 * MINUTE;

    #[test]
    fn a_clock_that_jumps_is_trusted_again_after_a_steady_hour() {
        // The wall clock, the monotonic clock, the expected time, whether the wall clock is plausible.
        let readings = [
            (NOW, 0, NOW, true),
            (NOW + 61 * MINUTE, 60 * MINUTE, NOW + 61 * MINUTE, true),
            (NOW + YEARS, 61 * MINUTE, NOW + 62 * MINUTE, false),
            (NOW + YEARS + 59 * MINUTE, 120 * MINUTE, NOW + 121 * MINUTE, false),
            (NOW + 122 * MINUTE, 121 * MINUTE, NOW + 122 * MINUTE, true),
            // A jump backwards, and a steady hour from there.
            (0, 122 * MINUTE, NOW + 123 * MINUTE, false),
            (59 * MINUTE, 181 * MINUTE, NOW + 182 * MINUTE, false),
            (60 * MINUTE, 182 * MINUTE, 60 * MINUTE, true),
            // A clock that jumps repeatedly is never trusted.
            (NOW, 183 * MINUTE, 61 * MINUTE, false),
            (NOW + YEARS, 242 * MINUTE, 120 * MINUTE, false),
            (NOW + 61 * MINUTE, 244 * MINUTE, 122 * MINUTE, false),
        ];
        let mut clock = AgeClock { start: None, trusted: Trust::Unread, jumped: None };
        for (step, (wall, passed, expected, settled)) in readings.into_iter().enumerate() {
            assert_eq!(clock.at(Timestamp(wall), passed), (Timestamp(expected), settled), "step {step}");
        }
    }

    #[test]
    fn the_first_time_after_the_clock_was_set_is_trusted() {
        let mut clock = AgeClock { start: None, trusted: Trust::Unread, jumped: None };
        for wall in [0, MINUTE, EARLIEST - 1] {
            assert_eq!(clock.at(Timestamp(wall), 0), (Timestamp(wall), false));
            assert!(clock.problem(Timestamp(wall)).unwrap().contains("2025"), "{wall}");
        }
        assert_eq!(clock.at(Timestamp(NOW), MINUTE), (Timestamp(NOW), true));
        assert_eq!(clock.problem(Timestamp(NOW)), None);
        clock.at(Timestamp(NOW + YEARS), MINUTE);
        let problem = clock.problem(Timestamp(NOW + YEARS)).unwrap();
        assert!(problem.contains(&format!(" {} s", YEARS / 1_000)), "{problem}");
        clock.at(Timestamp(NOW + MINUTE), 2 * MINUTE);
        assert_eq!(clock.problem(Timestamp(NOW + MINUTE)), None, "it is corrected");
    }

    #[test]
    fn after_an_implausible_start_the_wall_clock_is_returned_and_is_not_plausible_for_an_hour() {
        let mut clock = AgeClock { start: None, trusted: Trust::Nothing, jumped: None };
        let at = |clock: &mut AgeClock, wall, passed| clock.at(Timestamp(wall), passed);
        assert_eq!(at(&mut clock, NOW + YEARS, 0), (Timestamp(NOW + YEARS), false));
        assert_eq!(at(&mut clock, NOW, MINUTE), (Timestamp(NOW), false), "it is corrected");
        assert!(!at(&mut clock, NOW + 59 * MINUTE, 60 * MINUTE).1);
        assert!(at(&mut clock, NOW + 60 * MINUTE, 61 * MINUTE).1);
    }
}
