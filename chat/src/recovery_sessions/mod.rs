//! Who may come back: a recovery_session is made out at every connect and shown at a later one, so that a client goes on where it was
//! even when the process died in between. The client's door writes and reads them. Backends: [`sqlite`], [`redis`].

#[cfg(test)]
mod conformance;
pub mod redis;
pub mod sqlite;

use async_trait::async_trait;
use proto::{Timestamp, Username};

use crate::Error;

/// How long a recovery_session is good: as long as the session that it was made out under can be.
pub const LIFETIME_MS: u64 = sessions::LIFETIME_SECONDS * 1000;

/// What a client that comes back is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverySession {
    /// The secret that the client shows.
    pub pid: String,
    /// The socket id it had and gets again.
    pub sid: String,
    /// Who it was; nobody else can use the recovery_session.
    pub user: Username,
    /// Where the log was when it connected: where to go on when it has seen nothing since.
    pub since: u64,
    /// When it was made out.
    pub issued: Timestamp,
}

/// The store of recovery_sessions.
#[async_trait]
pub trait RecoverySessions: Send + Sync + 'static {
    /// Keeps a recovery_session, and forgets those that are too old.
    async fn issue(&self, recovery_session: RecoverySession) -> Result<(), Error>;

    /// The recovery_session of this `pid`, if it was made out at or after `oldest`.
    async fn find(&self, pid: &str, oldest: Timestamp) -> Result<Option<RecoverySession>, Error>;
}
