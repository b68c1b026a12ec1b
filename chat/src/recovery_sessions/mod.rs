//! The store of recovery sessions. One is issued at every connect. The client presents its id at a later connect and recovers, even if the
//! process has ended in between. Called by [`crate::client`]. Backends: [`sqlite`], [`redis`].

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod redis;
pub mod sqlite;

use async_trait::async_trait;
use proto::{Timestamp, Username};

use crate::Error;

/// Lifetime of a recovery session in milliseconds: the maximum lifetime of the login session under which it was issued.
pub const LIFETIME_MS: u64 = sessions::LIFETIME_SECONDS * 1000;

/// The state by which a client recovers after a reconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverySession {
    /// The secret id that the client presents, 32 hex digits.
    pub pid: String,
    /// The socket id, which the client keeps.
    pub sid: String,
    /// The client's user. Other users cannot use the session.
    pub user: Username,
    /// The last offset of the log when the client connected. Recovery starts there if the client has received no message.
    pub since: u64,
    /// Time of issue.
    pub issued: Timestamp,
}

/// The store of recovery sessions.
#[async_trait]
pub trait RecoverySessions: Send + Sync + 'static {
    /// Stores a recovery session and deletes expired ones.
    async fn issue(&self, session: RecoverySession) -> Result<(), Error>;

    /// Returns the recovery session with this `pid`. `None` when no such session was issued at or after `oldest`.
    async fn find(&self, pid: &str, oldest: Timestamp) -> Result<Option<RecoverySession>, Error>;
}
