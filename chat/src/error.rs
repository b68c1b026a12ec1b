//! The errors of this crate. Each variant has a code, which is both the `code` of an ack and an HTTP status.

use std::time::Duration;

use proto::{
    RoomName,
    event::{Code, Refused},
};

use crate::head::RoomHead;

/// An error of the chat.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The request is invalid, with the reason.
    #[error("{0}")]
    BadRequest(String),
    /// The request is not authenticated.
    #[error("Unauthorized")]
    Unauthorized,
    /// The caller is authenticated and is not permitted to do this, with the reason.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The room does not exist or is not visible to the caller.
    #[error("Not Found")]
    NotFound,
    /// The request conflicts with existing state, with the reason.
    #[error("{0}")]
    Conflict(&'static str),
    /// A value is longer than `limit` bytes.
    #[error("{what} is over {limit} bytes")]
    TooLarge {
        /// Name of the value.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// A limit of a rate or of a number is reached.
    #[error("{what}: try again later")]
    RateLimited {
        /// Name of the limit.
        what: &'static str,
        /// Time after which a retry can succeed.
        retry_after: Duration,
    },
    /// A queue is full or a deadline has expired. The outcome may be unknown. A resend with the same `clientId` is safe.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The store did not answer or failed. The reason is for the log and is not sent to clients.
    #[error("store: {0}")]
    Store(String),
    /// The store answered and refused the operation. The reason is for the log and is not sent to clients.
    #[error("store: {0}")]
    StoreRefused(String),
    /// Another node has appended to this room. The room reloads its head and retries. Not sent to clients.
    #[error("the room's head is {}", head.seq)]
    Fenced {
        /// The stored head.
        head: RoomHead,
    },
}

impl Error {
    /// The code of the refused ack. Its [`Code::status`] is the HTTP status.
    pub fn code(&self) -> Code {
        match self {
            Self::BadRequest(_) => Code::BadRequest,
            Self::Unauthorized => Code::Unauthorized,
            Self::Forbidden(_) => Code::Forbidden,
            Self::NotFound => Code::NotFound,
            Self::Conflict(_) => Code::Conflict,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::Unavailable(_) | Self::Store(_) | Self::StoreRefused(_) | Self::Fenced { .. } => {
                Code::Unavailable
            }
        }
    }

    /// Time after which the caller should retry. `None` when a retry does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => Some(*retry_after),
            Self::Unavailable(_) | Self::Store(_) | Self::StoreRefused(_) | Self::Fenced { .. } => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }

    /// Whether a store failed, did not answer or refused the operation.
    pub(crate) fn is_of_store(&self) -> bool {
        matches!(self, Self::Store(_) | Self::StoreRefused(_))
    }

    /// How the store failed, for the log. The texts of errors contain names of rooms.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::StoreRefused(_) => "refused",
            _ => "unavailable",
        }
    }

    /// Adds the room to an error of a store, for the log.
    pub(crate) fn of_room(self, room: &RoomName) -> Self {
        match self {
            Self::Store(error) => Self::Store(format!("room {room}: {error}")),
            Self::StoreRefused(error) => Self::StoreRefused(format!("room {room}: {error}")),
            other => other,
        }
    }

    /// The text for clients. It does not contain internals of a store.
    pub fn public(&self) -> String {
        match self {
            Self::Store(_) => "the store is unavailable, try again".to_owned(),
            Self::StoreRefused(_) => "the store refuses the operation, try again".to_owned(),
            Self::Fenced { .. } => "the room was changed meanwhile, try again".to_owned(),
            other => other.to_string(),
        }
    }

    /// The refused ack.
    pub fn refused(&self) -> Refused {
        let retry_after = self.retry_after().map(|wait| (wait.as_secs_f64() * 1000.0).ceil() / 1000.0);
        Refused { retry_after, ..Refused::new(self.code(), self.public()) }
    }

    /// The deadline expired without an answer.
    pub(crate) fn late() -> Self {
        Self::Unavailable("no answer in time, try again")
    }

    /// The actor ended before it answered.
    pub(crate) fn gone() -> Self {
        Self::Unavailable("the room was put away, try again")
    }

    /// The operating system returned no random bytes for an id.
    pub(crate) fn no_entropy() -> Self {
        Self::Unavailable("the server has no random numbers, try again")
    }

    /// The presence service does not answer.
    pub(crate) fn unknown_presence() -> Self {
        Self::Unavailable("the online users are unknown now, try again")
    }

    /// A queue is full.
    pub(crate) fn full() -> Self {
        Self::Unavailable("too busy, try again")
    }
}

impl From<socketio::NoEntropy> for Error {
    fn from(_: socketio::NoEntropy) -> Self {
        Self::no_entropy()
    }
}

impl From<embedded::Error> for Error {
    fn from(error: embedded::Error) -> Self {
        match error {
            // The job was not accepted and nothing was written. There is no reason to log.
            embedded::Error::Busy => Self::full(),
            other @ (embedded::Error::Timeout | embedded::Error::Closed) => Self::Store(other.to_string()),
            other => Self::StoreRefused(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_internals_are_not_sent_to_clients() {
        let error = Error::Store("disk /secret is full".into());
        let refused = error.refused();
        assert_eq!((refused.code, refused.retry_after), (Code::Unavailable, Some(1.0)));
        assert!(!refused.message.contains("secret"));
    }

    #[test]
    fn rate_limit_contains_the_delay() {
        let error = Error::RateLimited { what: "messages", retry_after: Duration::from_millis(100) };
        assert_eq!((error.code().status(), error.refused().retry_after), (429, Some(0.1)));
    }
}
