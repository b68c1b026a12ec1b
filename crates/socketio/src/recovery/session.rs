//! The sessions of a log by their private ids: connected, disconnected for at most the window, or being
//! resumed. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use crate::{
    Recovery,
    socket::{Leaving, Position, SocketId},
};

/// The largest number of rooms of a session that is kept.
const MAX_ROOMS: usize = 1024;

/// The sessions by private id.
#[derive(Default)]
pub(super) struct Sessions {
    sessions: HashMap<Arc<str>, StoredSession>,
    /// The disconnected sessions with the times of their disconnects.
    disconnected: BTreeSet<(Instant, Arc<str>)>,
}

/// One session.
pub(super) struct StoredSession {
    pub(super) sid: SocketId,
    pub(super) namespace: Arc<str>,
    /// The position at which the session began.
    pub(super) since: Position,
    pub(super) state: SessionState,
}

/// Whether the session's client is connected.
pub(super) enum SessionState {
    Connected,
    Disconnected(Disconnected),
    /// A CONNECT that resumes the session is being decided.
    Resuming,
}

/// The state of a session whose client has disconnected.
#[derive(Clone)]
pub(super) struct Disconnected {
    pub(super) at: Instant,
    pub(super) leaving: Leaving,
}

impl Sessions {
    pub(super) fn get(&self, pid: &str) -> Option<&StoredSession> {
        self.sessions.get(pid)
    }

    /// Adds a session whose client is connected.
    pub(super) fn add(&mut self, pid: Arc<str>, sid: SocketId, namespace: Arc<str>, since: Position) {
        let state = SessionState::Connected;
        self.sessions.insert(pid, StoredSession { sid, namespace, since, state });
    }

    /// Removes a session.
    pub(super) fn remove(&mut self, pid: &str) {
        self.set(pid, SessionState::Resuming);
        self.sessions.remove(pid);
    }

    /// Sets the state of a session. Returns the state before.
    fn set(&mut self, pid: &str, state: SessionState) -> Option<SessionState> {
        let pid = self.sessions.get_key_value(pid)?.0.clone();
        if let SessionState::Disconnected(Disconnected { at, .. }) = state {
            self.disconnected.insert((at, pid.clone()));
        }
        let before = std::mem::replace(&mut self.sessions.get_mut(&pid)?.state, state);
        if let SessionState::Disconnected(Disconnected { at, .. }) = before {
            self.disconnected.remove(&(at, pid));
        }
        Some(before)
    }

    /// Whether the session exists, and the server has not noticed that its client is disconnected.
    pub(super) fn is_connected(&self, pid: &str) -> bool {
        self.get(pid).is_some_and(|session| matches!(session.state, SessionState::Connected))
    }

    /// The client of a session has disconnected. Drops the sessions beyond the limits.
    pub(super) fn disconnect(&mut self, pid: &str, disconnected: Disconnected, limits: &Recovery) {
        if disconnected.leaving.rooms.len() > MAX_ROOMS {
            return self.remove(pid);
        }
        self.set(pid, SessionState::Disconnected(disconnected));
        while self.disconnected.len() > limits.max_sessions {
            self.drop_oldest();
        }
    }

    /// The session is being resumed. Returns its state before. `None` if it is not disconnected.
    pub(super) fn begin_resume(&mut self, pid: &str) -> Option<Disconnected> {
        let SessionState::Disconnected(disconnected) = &self.get(pid)?.state else { return None };
        let disconnected = disconnected.clone();
        self.set(pid, SessionState::Resuming);
        Some(disconnected)
    }

    /// The session was resumed.
    pub(super) fn finish_resume(&mut self, pid: &str) {
        self.set(pid, SessionState::Connected);
    }

    /// Drops the sessions that were disconnected for longer than the window at `now`.
    pub(super) fn expire(&mut self, now: Instant, limits: &Recovery) {
        while self.disconnected.first().is_some_and(|(at, _)| now.duration_since(*at) > limits.window) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, pid)) = self.disconnected.pop_first() {
            self.sessions.remove(&pid);
        }
    }

    /// The number of sessions, and of those that are disconnected.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.sessions.len(), self.disconnected.len())
    }
}
