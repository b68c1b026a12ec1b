//! Every session of the process by its id, for requests that come to another worker than the session lives on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::Addr;

use super::{Session, handler::SessionHandler};

/// See the module.
pub(crate) struct Registry<O: SessionHandler>(Arc<Mutex<Sessions<O>>>);

type Sessions<O> = HashMap<Box<str>, RegisteredSession<O>>;

struct RegisteredSession<O: SessionHandler> {
    session: Addr<Session<O>>,
    owner: Option<String>,
    /// Whether the client send who it is with every request: it has after the first.
    sends_owner: Option<bool>,
}

/// Why a request does not reach a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// There is none of this id.
    NotFound,
    /// It is somebody else's.
    OtherOwner,
}

impl<O: SessionHandler> Clone for Registry<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<O: SessionHandler> Default for Registry<O> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<O: SessionHandler> Registry<O> {
    /// A session has opened.
    pub(super) fn add(&self, sid: &str, session: Addr<Session<O>>, owner: Option<String>) {
        self.sessions().insert(sid.into(), RegisteredSession { session, owner, sends_owner: None });
    }

    /// A session has ended.
    pub(super) fn remove(&self, sid: &str) {
        self.sessions().remove(sid);
    }

    /// The session of this id, for `owner`. Some clients say who they are with the request that opens it and never again, all others
    /// with every request: which kind this is shows with the second one, and from then on nobody of the other kind passes.
    pub(crate) fn find(&self, sid: &str, owner: Option<&str>) -> Result<Addr<Session<O>>, LookupError> {
        let mut sessions = self.sessions();
        let known = sessions.get_mut(sid).ok_or(LookupError::NotFound)?;
        let fits = match (known.owner.as_deref(), owner) {
            (None, _) => true,
            (Some(_), None) => !*known.sends_owner.get_or_insert(false),
            (Some(of), Some(by)) => {
                let fits = of == by;
                if fits {
                    known.sends_owner = Some(true);
                }
                fits
            }
        };
        if fits { Ok(known.session.clone()) } else { Err(LookupError::OtherOwner) }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions<O>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
