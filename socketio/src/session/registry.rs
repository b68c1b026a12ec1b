//! Every session of the process by its id, for requests that come to another worker than the session lives on.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::Addr;

use super::{Session, occupant::Occupant};
use crate::{Config, link::End};

/// See the module.
pub(crate) struct Registry<O: Occupant>(Arc<Mutex<Sessions<O>>>);

struct Sessions<O: Occupant> {
    known: HashMap<Box<str>, Known<O>>,
    /// Those that opened last, the earliest first, whatever has become of them.
    latest: VecDeque<Box<str>>,
    max_unjoined: usize,
}

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

impl<O: Occupant> Registry<O> {
    /// Of a server of these numbers; nobody is here yet.
    pub(crate) fn new(config: &Config) -> Self {
        let max_unjoined = config.max_unjoined;
        let sessions = Sessions { known: HashMap::new(), latest: VecDeque::new(), max_unjoined };
        Self(Arc::new(Mutex::new(sessions)))
    }

    /// A session has opened. One that opened long before it, and has still joined nothing, must go.
    #[allow(clippy::disallowed_methods, reason = "bounded: once per session")]
    pub(super) fn add(&self, sid: &str, session: Addr<Session<O>>, owner: Option<String>) {
        let mut sessions = self.sessions();
        sessions.known.insert(sid.into(), Known { session, owner, repeats: None });
        sessions.latest.push_back(sid.into());
        if sessions.latest.len() > sessions.max_unjoined
            && let Some(earliest) = sessions.latest.pop_front()
            && let Some(known) = sessions.known.get(&earliest)
        {
            known.session.do_send(End::Unjoined);
        }
    }

    /// A session has ended.
    pub(super) fn remove(&self, sid: &str) {
        self.sessions().known.remove(sid);
    }

    /// The session of this id, for `owner`. Some clients say who they are with the request that opens it and never again, all others
    /// with every request: which kind this is shows with the second one, and from then on nobody of the other kind passes.
    pub(crate) fn find(&self, sid: &str, owner: Option<&str>) -> Result<Addr<Session<O>>, Unreachable> {
        let mut sessions = self.sessions();
        let known = sessions.known.get_mut(sid).ok_or(Unreachable::Unknown)?;
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
