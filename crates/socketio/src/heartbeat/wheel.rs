//! A timing wheel, pure: an inserted item is returned by the first advance at or after its due time. Used by
//! [`super::Heartbeats`].

use std::time::{Duration, Instant};

/// The number of slots. An item that is due after more than a full turn stays in its slot for another turn.
const SLOTS: usize = 64;

/// Items by due time.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    step: Duration,
    /// When the slot at `hand` is due.
    next: Instant,
    hand: usize,
    slots: Vec<Vec<(Instant, T)>>,
}

impl<T> Wheel<T> {
    /// An empty wheel with slots of `step`.
    pub(crate) fn new(step: Duration, now: Instant) -> Self {
        Self { step, next: now + step, hand: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() }
    }

    /// Inserts `item`. The first advance at or after `due` returns it.
    pub(crate) fn insert(&mut self, due: Instant, item: T) {
        let ahead = due.saturating_duration_since(self.next).as_nanos().div_ceil(self.step.as_nanos().max(1));
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX).min(SLOTS - 1);
        self.slots[(self.hand + ahead) % SLOTS].push((due, item));
    }

    /// Advances to `now` and returns the items that are due.
    pub(crate) fn advance(&mut self, now: Instant) -> Vec<T> {
        let mut due = Vec::new();
        let mut later = Vec::new();
        while self.next <= now {
            for (at, item) in std::mem::take(&mut self.slots[self.hand]) {
                if at <= now { due.push(item) } else { later.push((at, item)) }
            }
            self.hand = (self.hand + 1) % SLOTS;
            self.next += self.step;
        }
        later.into_iter().for_each(|(at, item)| self.insert(at, item));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_returned_by_the_first_advance_after_they_are_due() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut wheel = Wheel::new(Duration::from_millis(100), start);
        wheel.insert(at(250), "a");
        wheel.insert(at(300), "b");
        wheel.insert(at(50), "past");
        assert_eq!(wheel.advance(at(100)), ["past"]);
        assert!(wheel.advance(at(299)).is_empty());
        assert_eq!(wheel.advance(at(300)), ["a", "b"]);
        assert!(wheel.advance(at(10_000)).is_empty());
    }

    #[test]
    fn an_item_due_after_more_than_a_full_turn_waits() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut wheel = Wheel::new(Duration::from_secs(1), start);
        wheel.insert(at(200), "far");
        for second in 1..200 {
            assert!(wheel.advance(at(second)).is_empty(), "{second}");
        }
        assert_eq!(wheel.advance(at(200)), ["far"]);
    }
}
