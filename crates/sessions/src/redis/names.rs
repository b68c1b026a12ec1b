//! The names of a deployment's keys and channel in Redis. Used by [`super`] and its parts.

use proto::Username;
use remote::Location;

use crate::SessionId;

/// The names of the keys and of the channel of one deployment.
#[derive(Debug, Clone)]
pub struct Names {
    /// The prefix of the keys of sessions.
    pub sessions: String,
    /// The prefix of the keys of the lists of a user's sessions.
    users: String,
    /// The prefix of the keys of replacement lists. The list of a session contains the sessions that replace it.
    pub successors: String,
    /// The key of the fence record ([`super::fence`]).
    pub fence: String,
    /// The channel of closings, each published as the id of the session, and of generations, each published as a number.
    pub channel: String,
}

impl Names {
    /// The names of the deployment at `at`.
    pub fn of(at: &Location) -> Self {
        Self {
            sessions: at.key("session:"),
            users: at.key("sessions-of:"),
            successors: at.key("session-successors:"),
            fence: at.key("sessions:run"),
            channel: at.channel("session:closed"),
        }
    }

    /// The key of a session.
    pub fn session(&self, id: &SessionId) -> String {
        format!("{}{id}", self.sessions)
    }

    /// The key of the list of the sessions that replace session `id`.
    pub fn successors(&self, id: &SessionId) -> String {
        format!("{}{id}", self.successors)
    }

    /// The key of the list of the sessions of `user`.
    pub fn sessions_of(&self, user: &Username) -> String {
        format!("{}{}", self.users, user.key())
    }
}
