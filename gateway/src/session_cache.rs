//! A cache of recently found sessions. A polling client and a socket authenticate every request as the same user. An entry
//! is valid for a few seconds and is evicted when its session closes. While the store is unavailable, entries have a grace
//! period. Only requests within an Engine.IO session use the cache, never a request that opens something. Used by the
//! middleware.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use proto::Identity;
use sessions::{Closing, SessionId, SharedSessions};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// How long an entry is valid without asking the store.
const FRESH_FOR: Duration = Duration::from_secs(5);

/// How long an entry is valid while the store is unavailable.
const GRACE_PERIOD: Duration = Duration::from_secs(60);

/// The maximum number of entries.
const MAX_ENTRIES: usize = 65_536;

/// The cache of a process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct SessionCache(Arc<Mutex<Entries>>);

/// By session id: the identity and the time of the lookup.
type Entries = HashMap<String, (Identity, Instant)>;

impl SessionCache {
    /// An empty cache that evicts the sessions that `sessions` closes. Requires a running runtime.
    pub(crate) fn new(sessions: &SharedSessions) -> Self {
        let cache = Self::default();
        let (sessions, entries) = (sessions.clone(), Arc::downgrade(&cache.0));
        tokio::spawn(supervision::restart("session cache", move || {
            evict_closed(sessions.closings(), entries.clone())
        }));
        cache
    }

    /// The identity of a session that was found within [`FRESH_FOR`].
    pub(crate) fn fresh(&self, id: &SessionId, now: Instant) -> Option<Identity> {
        self.not_older_than(id, now, FRESH_FOR)
    }

    /// The identity of a session that was found within [`GRACE_PERIOD`].
    pub(crate) fn in_grace(&self, id: &SessionId, now: Instant) -> Option<Identity> {
        self.not_older_than(id, now, GRACE_PERIOD)
    }

    fn not_older_than(&self, id: &SessionId, now: Instant, age: Duration) -> Option<Identity> {
        let entries = self.entries();
        let (identity, at) = entries.get(id.as_str())?;
        (now.saturating_duration_since(*at) < age).then(|| identity.clone())
    }

    /// Records the result of a lookup. `None` evicts the entry.
    pub(crate) fn record(&self, id: &SessionId, identity: Option<&Identity>, now: Instant) {
        let mut entries = self.entries();
        let Some(identity) = identity else {
            entries.remove(id.as_str());
            return;
        };
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, (_, at)| now.saturating_duration_since(*at) < GRACE_PERIOD);
        }
        if entries.len() < MAX_ENTRIES {
            entries.insert(id.as_str().to_owned(), (identity.clone(), now));
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evicts sessions when they close.
async fn evict_closed(mut closings: Receiver<Closing>, entries: Weak<Mutex<Entries>>) {
    if let Some(entries) = entries.upgrade() {
        // Closings between a panic and this subscription were not received.
        SessionCache(entries).entries().clear();
    }
    loop {
        let closed = closings.recv().await;
        let Some(entries) = entries.upgrade() else { return };
        match closed {
            Ok(closing) => _ = SessionCache(entries).entries().remove(closing.id.as_str()),
            Err(RecvError::Lagged(_)) => SessionCache(entries).entries().clear(),
            Err(RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_expire_and_are_evicted_with_their_session() {
        let (cache, now) = (SessionCache::default(), Instant::now());
        let id: SessionId = "a".repeat(64).parse().unwrap();
        let identity = Identity { username: "alice".parse().unwrap(), session: id.to_string() };
        assert_eq!(cache.fresh(&id, now), None);
        cache.record(&id, Some(&identity), now);
        assert_eq!(cache.fresh(&id, now + FRESH_FOR - Duration::from_millis(1)), Some(identity.clone()));
        assert_eq!(cache.fresh(&id, now + FRESH_FOR), None);
        assert_eq!(cache.in_grace(&id, now + FRESH_FOR), Some(identity.clone()));
        assert_eq!(cache.in_grace(&id, now + GRACE_PERIOD), None);
        cache.record(&id, None, now);
        assert_eq!(cache.in_grace(&id, now), None);
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let (cache, now) = (SessionCache::default(), Instant::now());
        let identity = Identity { username: "alice".parse().unwrap(), session: String::new() };
        for n in 0..MAX_ENTRIES + 10 {
            cache.record(&format!("{n:064x}").parse().unwrap(), Some(&identity), now);
        }
        assert_eq!(cache.entries().len(), MAX_ENTRIES);
        cache.record(&"f".repeat(64).parse().unwrap(), Some(&identity), now + GRACE_PERIOD);
        assert_eq!(cache.entries().len(), 1, "expired entries are evicted");
    }
}
