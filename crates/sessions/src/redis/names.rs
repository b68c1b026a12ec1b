//! The names of a deployment's keys and channel in Redis. Used by [`super`] and its parts.

use proto::Username;
use remote::Location;

use crate::SessionId;

/// See the module.
#[derive(Debug, Clone)]
pub struct Names {
    /// The start of the key of every session.
    pub sessions: String,
    /// The start of the key of every list of a user's sessions.
    users: String,
    /// The start of the key of every list of the sessions that replace one.
    pub successors: String,
    /// The key of the mark, see [`super::run`].
    pub mark: String,
    /// The channel on which closings are published, each as the session's id, and generations, each as a number.
    pub channel: String,
}

impl Names {
    /// The names at this location.
    pub fn of(at: &Location) -> Self {
        Self {
            sessions: at.key("session:"),
            users: at.key("sessions-of:"),
            successors: at.key("session-successors:"),
            mark: at.key("sessions:run"),
            channel: at.channel("session:closed"),
        }
    }

    /// The key of a session.
    pub fn session(&self, id: &SessionId) -> String {
        format!("{}{id}", self.sessions)
    }

    /// The key of the list of the sessions that replace this one.
    pub fn successors(&self, id: &SessionId) -> String {
        format!("{}{id}", self.successors)
    }

    /// The key of the list of a user's sessions.
    pub fn sessions_of(&self, user: &Username) -> String {
        format!("{}{}", self.users, user.key())
    }
}
