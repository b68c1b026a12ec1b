//! Login sessions. A session is opened at login, found at every request, and closed at logout. The gateway finds sessions, accounts
//! opens and closes them, and chat watches closings to disconnect sockets. Backends: [`sqlite`], [`redis`].

pub mod ages;
mod closings;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod presented;
pub mod redis;
mod revocations;
pub mod sqlite;
mod token;

use std::sync::Arc;

use async_trait::async_trait;
use proto::{Timestamp, Username};

pub use closings::{ClosingSender, Closings, RecvError};
pub use error::Error;
pub use presented::{Claim, PresentedTokens};
pub use redis::{NotAnAddress, RedisSessions, redis_refusal};
#[cfg(feature = "mongodb")]
pub use revocations::MongoRevocations;
pub use revocations::Revocations;
pub use sqlite::SqliteSessions;
pub use token::{NotAToken, SessionId, Token};

/// The lifetime of a session, in seconds (24 h).
pub const LIFETIME_SECONDS: u64 = 86_400;

/// The maximum number of sessions of one user. Opening one more evicts the oldest.
pub const PER_USER: usize = 20;

/// The store of sessions, shared by all parts of the process.
pub type SharedSessions = Arc<dyn Sessions>;

/// The clock of a backend: [`Timestamp::now`], or a manual clock in tests.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The SHA-256 of the session's token. The hash is not secret; the token is.
    pub id: SessionId,
    /// The name of its user, in the spelling given to [`Sessions::open`].
    pub username: Username,
    /// The time when it was opened.
    pub issued_at: Timestamp,
    /// Whether the response to a login that replaces it was sent ([`Sessions::supersede`]).
    pub is_superseded: bool,
}

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

impl Closing {
    /// The end of `id` with [`Cause::Ended`].
    pub fn ended(id: SessionId) -> Self {
        Self { id, cause: Cause::Ended }
    }

    /// The end of `id` with [`Cause::Expired`].
    pub fn expired(id: SessionId) -> Self {
        Self { id, cause: Cause::Expired }
    }

    /// The end of `id` with [`Cause::Evicted`].
    pub fn evicted(id: SessionId) -> Self {
        Self { id, cause: Cause::Evicted }
    }

    /// The end of `id` with [`Cause::Replaced`].
    pub fn replaced(id: SessionId) -> Self {
        Self { id, cause: Cause::Replaced }
    }
}

/// A store of sessions. A backend stores [`SessionId`]s; only the client has the token.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// Opens a session for `user` and returns its token, which cannot be read again later. When the user has more than [`PER_USER`]
    /// sessions, the oldest is evicted and watchers receive [`Cause::Evicted`].
    async fn open(&self, user: &Username) -> Result<Token, Error> {
        self.replace(user, &[]).await
    }

    /// Opens a session that replaces the sessions of `old`, which may belong to any user and do not count for [`PER_USER`] here. They are
    /// closed at the first use of the new session, because only that use proves that the client received the new token.
    async fn replace(&self, user: &Username, old: &[Token]) -> Result<Token, Error>;

    /// Marks the sessions that the unused session `new` replaces as superseded. Called before the response with the token of `new` is
    /// sent. [`Sessions::find`] then returns `None` for them, watchers receive [`Cause::Replaced`], and sockets may use them until the
    /// first use of `new`.
    async fn supersede(&self, new: &SessionId) -> Result<(), Error>;

    /// The live session of this id. `None` when it was never opened, was closed or is older than [`LIFETIME_SECONDS`]. The first call
    /// for a session that replaces others is its first use. It closes the replaced sessions with [`Cause::Replaced`].
    async fn find_by_id(&self, id: &SessionId) -> Result<Option<Session>, Error>;

    /// The live session of `token` for a request. `None` when it is superseded. Counts as a use ([`Sessions::find_by_id`]).
    async fn find(&self, token: &Token) -> Result<Option<Session>, Error> {
        Ok(self.find_by_id(&token.id()).await?.filter(|session| !session.is_superseded))
    }

    /// The live session of `token` for a socket, superseded or not. Counts as a use ([`Sessions::find_by_id`]).
    async fn find_for_socket(&self, token: &Token) -> Result<Option<Session>, Error> {
        self.find_by_id(&token.id()).await
    }

    /// Whether the session of this id is live, superseded or not. For sockets, which outlive the request that contained the token.
    async fn is_live(&self, id: &SessionId) -> Result<bool, Error> {
        Ok(self.find_by_id(id).await?.is_some())
    }

    /// Closes the session of `token` permanently and returns whether it was live. Watchers receive [`Cause::Ended`]. The sessions that
    /// it replaces, and unused sessions that replace it, are closed too.
    async fn close(&self, token: &Token) -> Result<bool, Error>;

    /// Closes all sessions of `user`. Called before a user registers under this name. When the users were restored from an older
    /// backup, sessions of an earlier user with the same name may exist. Does nothing in backends whose users and sessions are
    /// restored together.
    async fn close_all(&self, user: &Username) -> Result<(), Error> {
        let _ = user;
        Ok(())
    }

    /// Subscribes to closings. Expired sessions are published only when they are deleted. A watcher that may have missed closings
    /// receives [`RecvError::Missed`].
    fn closings(&self) -> Closings;
}
