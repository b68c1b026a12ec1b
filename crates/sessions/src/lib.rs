//! Login sessions. A session is opened at login, found at every request, and closed at logout. The gateway finds sessions, accounts
//! opens and closes them, and chat watches closings to disconnect sockets. Backends: [`sqlite`], [`redis`].
//!
//! A login replaces the sessions whose tokens came with its request. The replaced sessions are closed at the first use of the new one:
//! only that use proves that the client received the new token.

mod closings;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod presented;
pub mod redis;
pub mod sqlite;
mod token;

use std::sync::Arc;

use async_trait::async_trait;
use proto::Username;

pub use closings::{ClosingSender, Closings, RecvError};
pub use presented::{Claim, PresentedTokens};
pub use redis::RedisSessions;
pub use sqlite::SqliteSessions;
pub use token::{NotAToken, SessionId, Token};

/// The lifetime of a session, in seconds (24 h).
pub const LIFETIME_SECONDS: u64 = 86_400;

/// The maximum number of sessions of one user. Opening one more evicts the oldest.
pub const PER_USER: usize = 20;

/// The store of sessions, shared by all parts of the process.
pub type SharedSessions = Arc<dyn Sessions>;

/// Why a session ended. After `Ended`, `Expired` and `Evicted` its sockets are disconnected in a way that stock clients do not
/// reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A logout.
    Ended,
    /// Its age exceeded [`LIFETIME_SECONDS`].
    Expired,
    /// Its user, who had [`PER_USER`] sessions, logged in again.
    Evicted,
    /// The same client logged in again and has the token of another session. Only the connections of its sockets are closed, and stock
    /// clients reconnect with the new token.
    Replaced,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The session.
    pub id: SessionId,
    /// Why it ended.
    pub cause: Cause,
}

/// A failed call. Whether the session exists is unknown: a caller must neither grant access nor report that the session ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed or did not respond in time.
    #[error("the session store is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operating system returned no random bytes.
    #[error("no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
}

/// A store of sessions. A backend stores [`SessionId`]s; only the client has the token.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// Opens a session for `user` and returns its token, which cannot be read again later. It replaces the sessions of `old`, which may
    /// belong to any user, do not count for [`PER_USER`] here, and are hereby used. When the user has more than [`PER_USER`] sessions, the
    /// oldest is evicted.
    async fn open(&self, user: &Username, old: &[Token]) -> Result<Token, Error>;

    /// The user of the live session of this id. `None` when it was never opened, was closed or is older than [`LIFETIME_SECONDS`]. The
    /// first call for a session is its first use: it closes the sessions that this one replaces.
    async fn find(&self, id: &SessionId) -> Result<Option<Username>, Error>;

    /// Closes the session, and the sessions that it replaces. Watchers receive [`Cause::Ended`] if it was open.
    async fn close(&self, id: &SessionId) -> Result<(), Error>;

    /// Subscribes to closings. Expired sessions are published only when the backend deletes them. A watcher that may have missed closings
    /// receives [`RecvError::Missed`].
    fn closings(&self) -> Closings;
}

impl From<embedded::Error> for Error {
    fn from(error: embedded::Error) -> Self {
        Self::Unavailable(error.into())
    }
}
