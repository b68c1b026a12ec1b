//! Every session of the process by its id, for requests that come to another worker than the session lives on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::Addr;

use super::{Session, occupant::Occupant};

/// See the module.
pub(crate) struct Registry<O: Occupant>(Arc<Mutex<Sessions<O>>>);

type Sessions<O> = HashMap<Box<str>, Addr<Session<O>>>;

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
    pub(super) fn add(&self, sid: &str, session: Addr<Session<O>>) {
        self.sessions().insert(sid.into(), session);
    }

    /// A session has ended.
    pub(super) fn remove(&self, sid: &str) {
        self.sessions().remove(sid);
    }

    /// The session of this id, if it lives.
    pub(crate) fn find(&self, sid: &str) -> Option<Addr<Session<O>>> {
        self.sessions().get(sid).cloned()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions<O>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
