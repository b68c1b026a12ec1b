//! The sessions of the process by id, for requests that arrive at another worker than the session's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::Addr;

use super::{Session, handler::SessionHandler};

/// The sessions of the process.
pub(crate) struct Registry<T: SessionHandler>(Arc<Mutex<Sessions<T>>>);

type Sessions<T> = HashMap<Box<str>, RegisteredSession<T>>;

struct RegisteredSession<T: SessionHandler> {
    session: Addr<Session<T>>,
    owner: Option<String>,
    /// Whether the client identifies itself with every request. `None` before the second request.
    sends_owner: Option<bool>,
}

/// Why a request does not reach a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// No session has this id.
    NotFound,
    /// The session has another owner.
    OtherOwner,
}

impl<T: SessionHandler> Clone for Registry<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: SessionHandler> Default for Registry<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: SessionHandler> Registry<T> {
    /// Adds a session that has opened.
    pub(super) fn add(&self, sid: &str, session: Addr<Session<T>>, owner: Option<String>) {
        self.sessions().insert(sid.into(), RegisteredSession { session, owner, sends_owner: None });
    }

    /// Removes a session that has ended.
    pub(super) fn remove(&self, sid: &str) {
        self.sessions().remove(sid);
    }

    /// The session of this id, for `owner`. Some clients identify themselves only with the request that opens
    /// the session, all others with every request. The second request determines the kind. From then on
    /// requests of the other kind are refused.
    pub(crate) fn find(&self, sid: &str, owner: Option<&str>) -> Result<Addr<Session<T>>, LookupError> {
        let mut sessions = self.sessions();
        let registered = sessions.get_mut(sid).ok_or(LookupError::NotFound)?;
        let fits = match (registered.owner.as_deref(), owner) {
            (None, _) => true,
            (Some(_), None) => !*registered.sends_owner.get_or_insert(false),
            (Some(expected), Some(actual)) => {
                let fits = expected == actual;
                if fits {
                    registered.sends_owner = Some(true);
                }
                fits
            }
        };
        if fits { Ok(registered.session.clone()) } else { Err(LookupError::OtherOwner) }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
