//! Why the chat refuses: one enum for every part of this crate. Each variant knows its code, which is an ack's `code` and an
//! HTTP status at once.

use std::time::Duration;

use proto::event::{Code, Refused};

use crate::head::Head;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The request is not what it should be; says how.
    #[error("{0}")]
    BadRequest(String),
    /// Nobody is logged in behind the request.
    #[error("Unauthorized")]
    Unauthorized,
    /// The caller is known and may not do this; says why.
    #[error("{0}")]
    Forbidden(&'static str),
    /// There is no such room, or none the caller may know of.
    #[error("Not Found")]
    NotFound,
    /// It contradicts something that already is.
    #[error("{0}")]
    Conflict(&'static str),
    /// Longer than `limit` bytes.
    #[error("{what} is over {limit} bytes")]
    TooLarge {
        /// What, in words.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// Too much in too short a time.
    #[error("{what}: try again later")]
    RateLimited {
        /// Which limit, in words.
        what: &'static str,
        /// How long to wait.
        retry_after: Duration,
    },
    /// A queue is full or a deadline has passed; the outcome may be unknown, and a resend with the same `clientId` is safe.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The store refused or does not answer. The reason is for the log, not for clients.
    #[error("store: {0}")]
    Store(String),
    /// What the store holds is not what was written. Trying again does not help.
    #[error("store: {0}")]
    Damaged(String),
    /// Somebody else has appended to this room: reload and try again. Never reaches a client.
    #[error("the room's head is {}", head.seq)]
    Fenced {
        /// What the store holds.
        head: Head,
    },
}

impl Error {
    /// The code of a refused ack; its [`Code::status`] is the HTTP status.
    pub fn code(&self) -> Code {
        match self {
            Self::BadRequest(_) => Code::BadRequest,
            Self::Unauthorized => Code::Unauthorized,
            Self::Forbidden(_) => Code::Forbidden,
            Self::NotFound => Code::NotFound,
            Self::Conflict(_) => Code::Conflict,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::Unavailable(_) | Self::Store(_) | Self::Damaged(_) | Self::Fenced { .. } => {
                Code::Unavailable
            }
        }
    }

    /// How long the caller should wait before it tries again; none when waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => Some(*retry_after),
            Self::Unavailable(_) | Self::Store(_) | Self::Fenced { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// What a client is told: never the inside of a store.
    pub fn public(&self) -> String {
        match self {
            Self::Store(_) | Self::Fenced { .. } => "the store does not answer, try again".to_owned(),
            Self::Damaged(_) => "stored data is damaged; its operator runs `godzilla check`".to_owned(),
            shown => shown.to_string(),
        }
    }

    /// The refused ack.
    pub fn refused(&self) -> Refused {
        let retry_after = self.retry_after().map(|wait| (wait.as_secs_f64() * 1000.0).ceil() / 1000.0);
        Refused { retry_after, ..Refused::new(self.code(), self.public()) }
    }

    /// Nobody answered in time.
    pub(crate) fn late() -> Self {
        Self::Unavailable("no answer in time, try again")
    }

    /// The room's actor has ended under the question.
    pub(crate) fn gone() -> Self {
        Self::Unavailable("the room was put away, try again")
    }

    /// The operating system gives no random bytes for an id.
    pub(crate) fn no_entropy() -> Self {
        Self::Unavailable("the server has no random numbers, try again")
    }

    /// A queue on the way is full.
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
            // Nothing was done, and there is nothing to find in a log.
            embedded::Error::Busy => Self::full(),
            other if other.is_damage() => Self::Damaged(other.to_string()),
            other => Self::Store(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_never_shows_its_inside_to_a_client() {
        let error = Error::Store("disk /secret is full".into());
        let refused = error.refused();
        assert_eq!((refused.code, refused.retry_after), (Code::Unavailable, Some(1.0)));
        assert!(!refused.message.contains("secret"));
    }

    #[test]
    fn a_rate_limit_says_how_long_to_wait() {
        let error = Error::RateLimited { what: "messages", retry_after: Duration::from_millis(100) };
        assert_eq!((error.code().status(), error.refused().retry_after), (429, Some(0.1)));
    }
}
