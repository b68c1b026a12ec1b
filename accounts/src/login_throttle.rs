//! Limits failed logins, so that passwords are guessed slowly: per name and client address, and per name for all addresses together. A
//! further login is refused before its password is checked. Kept in the memory of the process. Own code, because governor cannot ask
//! without counting, and successful logins do not count.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use proto::{Username, address::counted};

/// Failures of a name from one address: 5 at once, then one in 4 s. Several addresses are needed to lock others out of a name.
const BY_CLIENT: Quota = Quota { burst: 5, interval: Duration::from_secs(4) };

/// Failures of a name: 100 at once, then two per second.
const BY_NAME: Quota = Quota { burst: 100, interval: Duration::from_millis(500) };

/// The number of entries at which those that no longer count are deleted.
const SWEEP: usize = 10_000;

#[derive(Clone, Copy)]
struct Quota {
    burst: u32,
    /// The time after which one failure no longer counts.
    interval: Duration,
}

/// The failed logins of a process.
#[derive(Default)]
pub struct LoginThrottle(Mutex<Failures>);

#[derive(Default)]
struct Failures {
    /// The times at which no failure counts any more.
    by_client: HashMap<(String, Option<IpAddr>), Instant>,
    by_name: HashMap<String, Instant>,
}

impl LoginThrottle {
    /// The time after which a login of `name` from `client` is admitted. `None` when it is now.
    pub fn wait(&self, name: &Username, client: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_client = wait(&failures.by_client, &(name.key(), client.map(counted)), BY_CLIENT, now);
        by_client.max(wait(&failures.by_name, &name.key(), BY_NAME, now))
    }

    /// Counts a failed login of `name` from `client`.
    pub fn record_failure(&self, name: &Username, client: Option<IpAddr>, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count(&mut failures.by_client, (name.key(), client.map(counted)), BY_CLIENT, now);
        count(&mut failures.by_name, name.key(), BY_NAME, now);
    }
}

fn wait<K: Hash + Eq>(ends: &HashMap<K, Instant>, key: &K, quota: Quota, now: Instant) -> Option<Duration> {
    let counted = ends.get(key)?.saturating_duration_since(now);
    let full = quota.interval * quota.burst;
    (counted + quota.interval).checked_sub(full).filter(|wait| !wait.is_zero())
}

fn count<K: Hash + Eq>(ends: &mut HashMap<K, Instant>, key: K, quota: Quota, now: Instant) {
    if ends.len() >= SWEEP && ends.len().is_multiple_of(SWEEP / 10) {
        ends.retain(|_, end| *end > now);
    }
    let end = ends.entry(key).or_insert(now);
    *end = (*end).max(now) + quota.interval;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn failures_of_an_address_and_of_a_name_are_limited() {
        let (throttle, now) = (LoginThrottle::default(), Instant::now());
        let (alice, bob): (Username, Username) = ("Alice".parse().unwrap(), "bob".parse().unwrap());
        for _ in 0..BY_CLIENT.burst {
            assert_eq!(throttle.wait(&alice, client(1), now), None);
            throttle.record_failure(&"ALICE".parse().unwrap(), client(1), now);
        }
        assert_eq!(throttle.wait(&alice, client(1), now), Some(BY_CLIENT.interval));
        assert_eq!(throttle.wait(&alice, client(2), now), None, "another address");
        assert_eq!(throttle.wait(&bob, client(1), now), None, "another name");
        let later = now + BY_CLIENT.interval;
        assert_eq!(throttle.wait(&alice, client(1), later), None);
        throttle.record_failure(&alice, client(1), later);
        assert_eq!(throttle.wait(&alice, client(1), later), Some(BY_CLIENT.interval));
        for last in 2..2 + 100 {
            throttle.record_failure(&alice, client(last), later);
        }
        assert!(throttle.wait(&alice, client(200), later).is_some(), "all addresses together");
        assert_eq!(throttle.wait(&bob, client(200), later), None);
        assert_eq!(throttle.wait(&alice, client(1), later + Duration::from_secs(60)), None);
    }

    #[test]
    fn the_number_of_entries_is_bounded_by_the_rate_of_failures() {
        let (throttle, now) = (LoginThrottle::default(), Instant::now());
        let fail = |number: usize, at| {
            throttle.record_failure(&format!("user{number}").parse().unwrap(), client(1), at);
        };
        (0..SWEEP).for_each(|number| fail(number, now));
        fail(SWEEP, now + Duration::from_secs(60));
        let failures = throttle.0.lock().unwrap();
        assert_eq!((failures.by_client.len(), failures.by_name.len()), (1, 1));
    }
}
