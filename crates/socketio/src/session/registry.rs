//! Every session of the process by its id, for requests that come to another worker than the session lives on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::Addr;

use super::{Session, occupant::Occupant};

/// See the module.
pub(crate) struct Registry<O: Occupant>(Arc<Mutex<Sessions<O>>>);

type Sessions<O> = HashMap<Box<str>, Known<O>>;

struct Known<O: Occupant> {
    session: Addr<Session<O>>,
    owner: Option<String>,
    /// Whether the client says who it is with every request: it has after the first.
    repeats: Option<bool>,
}

/// Why a request does not reach a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// There is none of this id.
    Unknown,
    /// It is somebody else's.
    Foreign,
}

impl<O: Occupant> Clone for Registry<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<O: Occupant> Default for Registry<O> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<O: Occupant> Registry<O> {
    /// A session has opened.
    pub(super) fn add(&self, sid: &str, session: Addr<Session<O>>, owner: Option<String>) {
        self.sessions().insert(sid.into(), Known { session, owner, repeats: None });
    }

    /// A session has ended.
    pub(super) fn remove(&self, sid: &str) {
        self.sessions().remove(sid);
    }

    /// The session of this id, for `owner`. Some clients say who they are with the request that opens it and never again, all others
    /// with every request: which kind this is shows with the second one, and from then on nobody of the other kind passes.
    pub(crate) fn find(&self, sid: &str, owner: Option<&str>) -> Result<Addr<Session<O>>, Unreachable> {
        let mut sessions = self.sessions();
        let known = sessions.get_mut(sid).ok_or(Unreachable::Unknown)?;
        let fits = match (known.owner.as_deref(), owner) {
            (None, _) => true,
            (Some(_), None) => !*known.repeats.get_or_insert(false),
            (Some(of), Some(by)) => {
                let fits = of == by;
                if fits {
                    known.repeats = Some(true);
                }
                fits
            }
        };
        if fits { Ok(known.session.clone()) } else { Err(Unreachable::Foreign) }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions<O>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
