//! Passive outlier detection: services with recent failures are tried last. Shared by all workers of the proxy.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::backend::Backend;

/// How long a failure counts.
const FAILURE_AGE: Duration = Duration::from_secs(5);

/// The time of the last failure of each service.
#[derive(Debug, Default)]
pub(super) struct RecentFailures(Mutex<HashMap<String, Instant>>);

impl RecentFailures {
    /// Records that a service did not respond, or not in time.
    pub(super) fn record(&self, backend: &Backend) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.insert(backend.to_string(), Instant::now());
    }

    /// Moves services with recent failures behind all others. The order is otherwise unchanged.
    pub(super) fn move_last(&self, backends: &mut [Backend]) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, at| at.elapsed() < FAILURE_AGE);
        backends.sort_by_key(|backend| failures.contains_key(&backend.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_with_recent_failures_are_tried_last() {
        let backends: Vec<Backend> = (1..4).map(|n| format!("http://h:{n}").parse().unwrap()).collect();
        let (recent_failures, mut order) = (RecentFailures::default(), backends.clone());
        recent_failures.record(&backends[0]);
        recent_failures.move_last(&mut order);
        assert_eq!(order, [&backends[1..], &backends[..1]].concat());
    }
}
