//! A clock for ages: the wall clock, except while it contradicts the monotonic clock. What is deleted for its age is deleted by this
//! clock, because a wall clock that is years ahead for a moment makes everything old.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use proto::Timestamp;

/// By how much the wall clock may drift from the monotonic one between two readings, in milliseconds (5 min).
const TOLERANCE: i64 = 300_000;

/// How long the wall clock must go on steadily after a jump until it is believed again, in milliseconds (1 h).
const SETTLING: u64 = 3_600_000;

static CLOCK: Mutex<Steady> = Mutex::new(Steady { start: None, trusted: Trust::Unread, jumped: None });

/// The state of the clock of one process.
struct Steady {
    start: Option<Instant>,
    trusted: Trust,
    /// The difference since a jump, and when the jump was seen.
    jumped: Option<(i64, u64)>,
}

/// The difference between the wall clock and the monotonic clock, in milliseconds.
#[derive(Clone, Copy)]
enum Trust {
    /// Nothing was read yet.
    Unread,
    /// The wall clock was not plausible at start.
    Nothing,
    /// The last plausible difference.
    Offset(i64),
}

/// The time by which ages are measured: the wall clock, or after a jump of it by more than 5 min the time that has passed on the
/// monotonic clock, for an hour.
pub fn now() -> Timestamp {
    read().0
}

/// The same, while the wall clock is plausible: only then may anything be deleted for its age.
pub fn settled() -> Option<Timestamp> {
    let (now, is_settled) = read();
    is_settled.then_some(now)
}

/// The latest time that a right clock can have given by now; the end of time while the wall clock is not plausible.
pub fn latest() -> Timestamp {
    settled().map_or(Timestamp(u64::MAX), |_| Timestamp::latest())
}

/// To be called at start with the time of the last write before it: a wall clock that is behind that, or more than an hour after it,
/// is not plausible before it has gone on steadily for an hour.
pub fn was_last_seen(last: Timestamp) {
    let now = i64::try_from(Timestamp::now().0).unwrap_or(i64::MAX);
    let passed = now.saturating_sub(i64::try_from(last.0).unwrap_or(i64::MAX));
    let longest = i64::try_from(SETTLING).unwrap_or(i64::MAX);
    if !(-TOLERANCE..=longest).contains(&passed) {
        *clock() = Steady { start: None, trusted: Trust::Nothing, jumped: None };
    }
}

fn clock() -> MutexGuard<'static, Steady> {
    CLOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read() -> (Timestamp, bool) {
    let mut clock = clock();
    let passed = clock.start.get_or_insert_with(Instant::now).elapsed().as_millis();
    clock.at(Timestamp::now(), u64::try_from(passed).unwrap_or(u64::MAX))
}

impl Steady {
    /// The time at a reading of both clocks, and whether the wall clock is plausible.
    fn at(&mut self, wall: Timestamp, passed: u64) -> (Timestamp, bool) {
        let since_start = i64::try_from(passed).unwrap_or(i64::MAX);
        let offset = i64::try_from(wall.0).unwrap_or(i64::MAX).saturating_sub(since_start);
        let is_near = |other: i64| offset.abs_diff(other) <= TOLERANCE.unsigned_abs();
        match self.trusted {
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
    fn a_clock_that_jumps_is_believed_only_after_it_has_gone_on_for_an_hour() {
        // The wall clock, the monotonic clock, the expected time, whether ages may be measured.
        let story = [
            (NOW, 0, NOW, true),
            (NOW + 61 * MINUTE, 60 * MINUTE, NOW + 61 * MINUTE, true),
            (NOW + YEARS, 61 * MINUTE, NOW + 62 * MINUTE, false),
            (NOW + YEARS + 59 * MINUTE, 120 * MINUTE, NOW + 121 * MINUTE, false),
            (NOW + 122 * MINUTE, 121 * MINUTE, NOW + 122 * MINUTE, true),
            // Backwards, and on from there.
            (0, 122 * MINUTE, NOW + 123 * MINUTE, false),
            (59 * MINUTE, 181 * MINUTE, NOW + 182 * MINUTE, false),
            (60 * MINUTE, 182 * MINUTE, 60 * MINUTE, true),
            // A clock that jumps again and again is never believed.
            (NOW, 183 * MINUTE, 61 * MINUTE, false),
            (NOW + YEARS, 242 * MINUTE, 120 * MINUTE, false),
            (NOW + 61 * MINUTE, 244 * MINUTE, 122 * MINUTE, false),
        ];
        let mut clock = Steady { start: None, trusted: Trust::Unread, jumped: None };
        for (step, (wall, passed, expected, settled)) in story.into_iter().enumerate() {
            assert_eq!(clock.at(Timestamp(wall), passed), (Timestamp(expected), settled), "step {step}");
        }
    }

    #[test]
    fn after_an_implausible_start_the_wall_clock_is_shown_and_nothing_is_deleted_for_an_hour() {
        let mut clock = Steady { start: None, trusted: Trust::Nothing, jumped: None };
        let at = |clock: &mut Steady, wall, passed| clock.at(Timestamp(wall), passed);
        assert_eq!(at(&mut clock, NOW + YEARS, 0), (Timestamp(NOW + YEARS), false));
        assert_eq!(at(&mut clock, NOW, MINUTE), (Timestamp(NOW), false), "it is corrected");
        assert!(!at(&mut clock, NOW + 59 * MINUTE, 60 * MINUTE).1);
        assert!(at(&mut clock, NOW + 60 * MINUTE, 61 * MINUTE).1);
    }
}
