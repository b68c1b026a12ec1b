//! Who is logged in: a session is opened at login, found at every request, closed at logout. The gateway finds, accounts
//! opens and closes, chat watches closings to cut sockets. Backends: [`sqlite`], [`redis`].

pub mod ages;
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
use tokio::sync::broadcast;

pub use error::Error;
pub use presented::{Claim, PresentedTokens};
pub use redis::{NotAnAddress, RedisSessions};
pub use revocations::{MongoRevocations, Revocations};
pub use sqlite::SqliteSessions;
pub use token::{NotAToken, SessionId, Token};

/// How long a session lives, in seconds (24 h).
pub const LIFETIME_SECONDS: u64 = 86_400;

/// How many sessions one user may have; one more closes the oldest.
pub const PER_USER: usize = 20;

/// The open sessions, shared by every part of the process.
pub type SharedSessions = Arc<dyn Sessions>;

/// Where a backend reads the time: [`Timestamp::now`], or a test's own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The hash of its token: may be shown and stored.
    pub id: SessionId,
    /// Whose it is, in the spelling given to [`Sessions::open`].
    pub username: Username,
    /// When it was opened.
    pub issued_at: Timestamp,
    /// Whether the answer to a login that replaces it was sent, see [`Sessions::supersede`].
    pub is_superseded: bool,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// By a logout: its sockets are disconnected, and stock clients stay away. So they are after the next two causes.
    Ended,
    /// By age, see [`LIFETIME_SECONDS`].
    Expired,
    /// By a login of its user, who had [`PER_USER`] sessions.
    Evicted,
    /// By a login of the same client, which has the token of another session from then on: its sockets lose their connection
    /// only, and stock clients reconnect with the new token.
    Replaced,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Which session.
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

    /// The end of `id` with [`Cause::Crowded`].
    pub fn evicted(id: SessionId) -> Self {
        Self { id, cause: Cause::Evicted }
    }

    /// The end of `id` with [`Cause::Replaced`].
    pub fn replaced(id: SessionId) -> Self {
        Self { id, cause: Cause::Replaced }
    }
}

/// The store of sessions. A token is known only to its client: a backend keeps [`SessionId`]s.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// Opens a session for `user` and answers with its token, which is shown this once. A user who has more than
    /// [`PER_USER`] then loses the oldest; watchers hear of it.
    async fn open(&self, user: &Username) -> Result<Token, Error> {
        self.replace(user, &[]).await
    }

    /// The same, to replace the sessions of `old`, of any user. They do not count for [`PER_USER`] here. They are closed at the first
    /// use of the new session: whether the answer with its token reaches the client is not known before.
    async fn replace(&self, user: &Username, old: &[Token]) -> Result<Token, Error>;

    /// Marks the sessions that the unused session `new` replaces: the answer with its token is on its way. [`Sessions::find`] finds
    /// them no more, watchers receive [`Cause::Replaced`], and sockets may use them until the first use of `new`.
    async fn supersede(&self, new: &SessionId) -> Result<(), Error>;

    /// The live session of this id; none when it was never opened, was closed or is older than [`LIFETIME_SECONDS`]. The first
    /// call for a session that replaces others is its first use: it closes those, with [`Cause::Replaced`].
    async fn look(&self, id: &SessionId) -> Result<Option<Session>, Error>;

    /// The live session of `token` for a request; none when it is superseded. A use, see [`Sessions::look`].
    async fn find(&self, token: &Token) -> Result<Option<Session>, Error> {
        Ok(self.look(&token.id()).await?.filter(|session| !session.is_superseded))
    }

    /// The live session of `token` for a socket, superseded or not. A use, see [`Sessions::look`].
    async fn find_for_socket(&self, token: &Token) -> Result<Option<Session>, Error> {
        self.look(&token.id()).await
    }

    /// Whether the session of this id is still live, superseded or not: for sockets, which outlive the request that brought the token.
    async fn is_live(&self, id: &SessionId) -> Result<bool, Error> {
        Ok(self.look(id).await?.is_some())
    }

    /// Closes the session of `token` for good and answers whether there was one. Watchers hear of it. The sessions that it replaces,
    /// and unused ones that replace it, are closed, too.
    async fn close(&self, token: &Token) -> Result<bool, Error>;

    /// Closes all sessions of `user`, before somebody registers under the name: where the users were restored from an older backup,
    /// sessions of somebody may be there who had the name before. Nothing where users and sessions are restored together.
    async fn close_all(&self, user: &Username) -> Result<(), Error> {
        let _ = user;
        Ok(())
    }

    /// Every closing from now on, expiry only when it is noticed. A watcher that lags loses the oldest and should ask
    /// [`Sessions::is_live`] instead.
    fn closings(&self) -> broadcast::Receiver<Closing>;
}
