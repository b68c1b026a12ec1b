//! Detects that records cannot be written to the stream, for readiness. Recorded by [`super::append`] and [`super::publish`].

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::Error;

/// How long all writes must fail until the node counts as degraded.
const TOLERANCE: Duration = Duration::from_secs(3);

/// The failures of writes since the last successful one.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Option<(Instant, String)>>);

impl Refusals {
    /// Records the outcome of a write. Returns it.
    pub fn record<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        let mut failing = self.lock();
        match &outcome {
            Ok(_) => *failing = None,
            Err(error) => {
                let since = failing.take().map_or_else(Instant::now, |(since, _)| since);
                *failing = Some((since, error.to_string()));
            }
        }
        drop(failing);
        outcome
    }

    /// The last error, in words that follow "the log". `None` when a write has succeeded since, or the first failure is younger than
    /// [`TOLERANCE`].
    pub fn not_ready_reason(&self) -> Option<String> {
        let failing = self.lock();
        let (_, why) = failing.as_ref().filter(|(since, _)| since.elapsed() >= TOLERANCE)?;
        Some(format!("accepts no records: {why}"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_that_all_fail_are_reported_with_the_last_error() {
        let refusals = Refusals::default();
        let fail = |why: &str| refusals.record::<()>(Err(Error::Store(why.to_owned()))).unwrap_err();
        fail("one");
        assert_eq!(refusals.not_ready_reason(), None, "it may be transient");
        tokio::time::advance(TOLERANCE).await;
        fail("two");
        let reason = refusals.not_ready_reason().unwrap();
        assert!(reason.starts_with("accepts no records: ") && reason.contains("two"), "{reason}");
        refusals.record(Ok(())).unwrap();
        assert_eq!(refusals.not_ready_reason(), None);
        fail("three");
        assert_eq!(refusals.not_ready_reason(), None);
    }
}
