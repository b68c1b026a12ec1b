//! Sessions that were found lately. A client that polls asks every few moments, always as the same; so does everybody's
//! socket with each of its requests. What is known is good for a few seconds, ends at once with the session, and carries those
//! who are in over an outage of the store: only requests within an Engine.IO session are let pass on it, never one that opens
//! something. Asked by the door.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use proto::Identity;
use sessions::{Closing, SessionId, SharedSessions};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// How long a session that was found counts as found.
const FRESH: Duration = Duration::from_secs(5);

/// How long it does while nobody can say whether it lives.
const GRACE: Duration = Duration::from_secs(60);

/// How many are remembered.
const MOST: usize = 65_536;

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<Mutex<Found>>);

/// By session: who it is, and when it was found.
type Found = HashMap<String, (Identity, Instant)>;

impl Known {
    /// Nobody is known. Hears of closings as long as the store lives; needs a running runtime.
    pub(crate) fn new(sessions: &SharedSessions) -> Self {
        let known = Self::default();
        let (sessions, found) = (sessions.clone(), Arc::downgrade(&known.0));
        tokio::spawn(supervision::restart("known sessions", move || {
            watch(sessions.closings(), found.clone())
        }));
        known
    }

    /// Who this session belongs to, if that was found a few moments ago.
    pub(crate) fn fresh(&self, id: &SessionId, now: Instant) -> Option<Identity> {
        self.within(id, now, FRESH)
    }

    /// Who this session belonged to when somebody could say so, not long ago.
    pub(crate) fn in_grace(&self, id: &SessionId, now: Instant) -> Option<Identity> {
        self.within(id, now, GRACE)
    }

    fn within(&self, id: &SessionId, now: Instant, age: Duration) -> Option<Identity> {
        let found = self.found();
        let (identity, at) = found.get(id.as_str())?;
        (now.saturating_duration_since(*at) < age).then(|| identity.clone())
    }

    /// It was found, or is no more.
    pub(crate) fn note(&self, id: &SessionId, identity: Option<&Identity>, now: Instant) {
        let mut found = self.found();
        let Some(identity) = identity else {
            found.remove(id.as_str());
            return;
        };
        if found.len() >= MOST {
            found.retain(|_, (_, at)| now.saturating_duration_since(*at) < GRACE);
        }
        if found.len() < MOST {
            found.insert(id.as_str().to_owned(), (identity.clone(), now));
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes sessions as they close.
async fn watch(mut closings: Receiver<Closing>, found: Weak<Mutex<Found>>) {
    if let Some(found) = found.upgrade() {
        // What closed before the subscription, between a panic and this start, was not received.
        Known(found).found().clear();
    }
    loop {
        let closed = closings.recv().await;
        let Some(found) = found.upgrade() else { return };
        match closed {
            Ok(closing) => _ = Known(found).found().remove(closing.id.as_str()),
            Err(RecvError::Lagged(_)) => Known(found).found().clear(),
            Err(RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_good_for_a_while_and_ends_with_the_session() {
        let (known, now) = (Known::default(), Instant::now());
        let id: SessionId = "a".repeat(64).parse().unwrap();
        let identity = Identity { username: "alice".parse().unwrap(), session: id.to_string() };
        assert_eq!(known.fresh(&id, now), None);
        known.note(&id, Some(&identity), now);
        assert_eq!(known.fresh(&id, now + FRESH - Duration::from_millis(1)), Some(identity.clone()));
        assert_eq!(known.fresh(&id, now + FRESH), None);
        assert_eq!(known.in_grace(&id, now + FRESH), Some(identity.clone()));
        assert_eq!(known.in_grace(&id, now + GRACE), None);
        known.note(&id, None, now);
        assert_eq!(known.in_grace(&id, now), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (known, now) = (Known::default(), Instant::now());
        let identity = Identity { username: "alice".parse().unwrap(), session: String::new() };
        for n in 0..MOST + 10 {
            known.note(&format!("{n:064x}").parse().unwrap(), Some(&identity), now);
        }
        assert_eq!(known.found().len(), MOST);
        known.note(&"f".repeat(64).parse().unwrap(), Some(&identity), now + GRACE);
        assert_eq!(known.found().len(), 1, "old ones make room");
    }
}
