//! A cache of recently found sessions. A polling client and a socket authenticate every request as the same user. An entry
//! is valid for a few seconds and is evicted when its session closes. When closings may have been missed, the store is asked
//! again for every entry. While the store is unavailable, entries have a grace period. Only requests within an Engine.IO
//! session use the cache, never a request that opens something. Used by the middleware.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use proto::Identity;
use sessions::{Closing, Closings, RecvError, SessionId, SharedSessions};

/// How long an entry is valid without asking the store.
const FRESH_FOR: Duration = Duration::from_secs(5);

/// How long an entry is valid while the store is unavailable.
const GRACE_PERIOD: Duration = Duration::from_secs(60);

/// The maximum number of entries.
const MAX_ENTRIES: usize = 65_536;

/// The cache of a process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct SessionCache(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    /// By session id: the identity and the time at which the lookup began.
    found: HashMap<String, (Identity, Instant)>,
    /// The time at which closings may have been missed last. Lookups that began before it are not fresh.
    missed_at: Option<Instant>,
}

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
        let entries = self.entries();
        let (identity, at) = entries.found.get(id.as_str())?;
        let is_current = entries.missed_at.is_none_or(|missed_at| *at > missed_at);
        (is_current && is_within(*at, now, FRESH_FOR)).then(|| identity.clone())
    }

    /// The identity of a session that was found within [`GRACE_PERIOD`].
    pub(crate) fn in_grace(&self, id: &SessionId, now: Instant) -> Option<Identity> {
        let entries = self.entries();
        let (identity, at) = entries.found.get(id.as_str())?;
        is_within(*at, now, GRACE_PERIOD).then(|| identity.clone())
    }

    /// Records the result of a lookup. `None` evicts the entry.
    pub(crate) fn record(&self, id: &SessionId, identity: Option<&Identity>, now: Instant) {
        let mut entries = self.entries();
        let found = &mut entries.found;
        let Some(identity) = identity else {
            found.remove(id.as_str());
            return;
        };
        if found.len() >= MAX_ENTRIES {
            found.retain(|_, (_, at)| is_within(*at, now, GRACE_PERIOD));
        }
        if found.len() < MAX_ENTRIES {
            found.insert(id.as_str().to_owned(), (identity.clone(), now));
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `at` is less than `age` before `now`.
fn is_within(at: Instant, now: Instant, age: Duration) -> bool {
    now.saturating_duration_since(at) < age
}

/// Evicts sessions when they close.
async fn evict_closed(mut closings: Closings, entries: Weak<Mutex<Entries>>) {
    // Closings between a panic and this subscription were not received.
    let mut closed: Result<Closing, RecvError> = Err(RecvError::Missed);
    loop {
        let Some(entries) = entries.upgrade() else { return };
        let cache = SessionCache(entries);
        match closed {
            Ok(closing) => _ = cache.entries().found.remove(closing.id.as_str()),
            Err(RecvError::Missed) => cache.entries().missed_at = Some(Instant::now()),
            Err(RecvError::Closed) => return,
        }
        drop(cache);
        closed = closings.recv().await;
    }
}

#[cfg(test)]
mod tests;
