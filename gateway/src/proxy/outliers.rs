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

    /// Whether this service has a recent failure.
    pub(super) fn contains(&self, backend: &Backend) -> bool {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, at| at.elapsed() < FAILURE_AGE);
        failures.contains_key(&backend.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recent_failure_counts_for_its_service_only() {
        let backends: Vec<Backend> = (1..4).map(|n| format!("http://h:{n}").parse().unwrap()).collect();
        let recent_failures = RecentFailures::default();
        recent_failures.record(&backends[0]);
        let failed: Vec<_> = backends.iter().map(|backend| recent_failures.contains(backend)).collect();
        assert_eq!(failed, [true, false, false]);
    }
}
