//! The list of revoked sessions, in a store whose writes survive a crash of Redis. [`RedisSessions`](crate::RedisSessions) adds every
//! closed session before it responds, and reads the list when Redis has restarted. Backend: `mongo`.

#[cfg(feature = "mongodb")]
mod mongo;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

#[cfg(feature = "mongodb")]
pub use self::mongo::MongoRevocations;
use crate::{Error, SessionId};

/// A durable list of revoked sessions.
#[async_trait]
pub trait Revocations: Send + Sync + 'static {
    /// Adds sessions, durably. They stay in the list until after their expiry. Sessions that are already in the list stay.
    async fn add(&self, sessions: &[SessionId]) -> Result<(), Error>;

    /// Returns a number larger than all that it returned before, to any process, and larger than `seen`. The list, and with it its
    /// counter, may have been restored from a backup, so `seen` is the largest number that the caller has seen.
    async fn generation(&self, seen: u64) -> Result<u64, Error>;

    /// All sessions of the list, in parts.
    async fn parts(&self) -> Result<BoxStream<'_, Result<Vec<SessionId>, Error>>, Error>;
}
