//! Detects that records cannot be written to the stream, for readiness. Recorded by [`super::append`] and [`super::publish`].

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::Error;

/// How long all writes must fail until the node counts as degraded.
const TOLERANCE: Duration = Duration::from_secs(3);

/// The failures of writes since the last successful one.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Option<(Instant, String)>>);

impl Refusals {
    /// Records the outcome of a write. Returns it.
    pub fn record<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        self.record_at(outcome, Instant::now())
    }

    fn record_at<T>(&self, outcome: Result<T, Error>, now: Instant) -> Result<T, Error> {
        let mut failing = self.lock();
        match &outcome {
            Ok(_) => *failing = None,
            Err(error) => {
                let since = failing.take().map_or(now, |(since, _)| since);
                *failing = Some((since, error.to_string()));
            }
        }
        drop(failing);
        outcome
    }

    /// Clears the failures.
    pub fn clear(&self) {
        *self.lock() = None;
    }

    /// The last error, in words that follow "the log". `None` when a write has succeeded since, or the first failure is younger than
    /// [`TOLERANCE`].
    pub fn not_ready_reason(&self) -> Option<String> {
        self.not_ready_reason_at(Instant::now())
    }

    fn not_ready_reason_at(&self, now: Instant) -> Option<String> {
        let failing = self.lock();
        let (_, why) = failing.as_ref().filter(|(since, _)| now.duration_since(*since) >= TOLERANCE)?;
        Some(format!("accepts no records: {why}"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_all_fail_are_reported_with_the_last_error() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let later = start + TOLERANCE;
        let fail =
            |why: &str, at| refusals.record_at::<()>(Err(Error::Store(why.to_owned())), at).unwrap_err();
        fail("one", start);
        assert_eq!(refusals.not_ready_reason_at(start), None, "it may be transient");
        fail("two", later);
        let reason = refusals.not_ready_reason_at(later).unwrap();
        assert!(reason.starts_with("accepts no records: ") && reason.contains("two"), "{reason}");
        refusals.record_at(Ok(()), later).unwrap();
        assert_eq!(refusals.not_ready_reason_at(later), None);
        fail("three", later);
        assert_eq!(refusals.not_ready_reason_at(later), None);
        refusals.clear();
        assert_eq!(refusals.not_ready_reason_at(later + TOLERANCE), None);
    }
}
