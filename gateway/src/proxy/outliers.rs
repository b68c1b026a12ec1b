//! Passive outlier detection: services with recent failures are tried last. Shared by all workers of the proxy.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cluster::Backend;

/// How long a failure counts.
const FAILURE_AGE: Duration = Duration::from_secs(5);

/// The maximum number of failures of single users. Further ones are not recorded until others expire.
const MAX_OF_USERS: usize = 4_096;

/// The times of the last failures.
#[derive(Debug, Default)]
pub(super) struct RecentFailures {
    /// By service.
    all: Mutex<HashMap<Backend, Instant>>,
    /// For requests of one user, by user and service.
    of_users: Mutex<HashMap<(String, Backend), Instant>>,
}

impl RecentFailures {
    /// Records that a service did not respond, or not in time.
    pub(super) fn record(&self, backend: &Backend) {
        lock(&self.all).insert(backend.clone(), Instant::now());
    }

    /// Records that a request of this user failed at a service.
    pub(super) fn record_for(&self, user: &str, backend: &Backend) {
        let mut of_users = lock(&self.of_users);
        if of_users.len() >= MAX_OF_USERS {
            of_users.retain(|_, at| at.elapsed() < FAILURE_AGE);
        }
        if of_users.len() < MAX_OF_USERS {
            of_users.insert((user.to_owned(), backend.clone()), Instant::now());
        }
    }

    /// Whether this service has a recent failure, in general or for this user.
    pub(super) fn contains(&self, user: Option<&str>, backend: &Backend) -> bool {
        let is_recent = |at: &Instant| at.elapsed() < FAILURE_AGE;
        let mut all = lock(&self.all);
        all.retain(|_, at| is_recent(at));
        if all.contains_key(backend) {
            return true;
        }
        let of_user =
            |user: &str| lock(&self.of_users).get(&(user.to_owned(), backend.clone())).is_some_and(is_recent);
        user.is_some_and(of_user)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends() -> Vec<Backend> {
        (1..4).map(|n| format!("http://h:{n}").parse().unwrap()).collect()
    }

    #[test]
    fn a_recent_failure_counts_for_its_service_only() {
        let (backends, failures) = (backends(), RecentFailures::default());
        failures.record(&backends[0]);
        failures.record_for("alice", &backends[1]);
        let failed = |user| {
            let failed: Vec<_> = backends.iter().map(|backend| failures.contains(user, backend)).collect();
            failed
        };
        assert_eq!(failed(None), [true, false, false]);
        assert_eq!(failed(Some("alice")), [true, true, false]);
        assert_eq!(failed(Some("bob")), [true, false, false]);
    }

    #[test]
    fn failures_of_users_are_bounded() {
        let (backends, failures) = (backends(), RecentFailures::default());
        (0..=MAX_OF_USERS).for_each(|n| failures.record_for(&format!("user{n}"), &backends[0]));
        assert_eq!(lock(&failures.of_users).len(), MAX_OF_USERS);
        assert!(failures.contains(Some("user0"), &backends[0]));
    }
}
