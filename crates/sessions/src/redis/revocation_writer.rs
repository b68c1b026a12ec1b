//! The writer of the durable list of closed sessions. Retries what could not be written. Called by [`super`] and [`super::fence`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt;
use remote::redis::{self, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{names::Names, scripts, unavailable};
use crate::{Error, Revocations, SessionId};

/// The maximum number of closed sessions that wait to be written. The closing of further ones fails and is not retried.
const MAX_PENDING: usize = 65_536;

/// The maximum time to read the next part of the list.
const PART_TIMEOUT: Duration = Duration::from_secs(4);

/// Adds closed sessions to the durable list, and applies the list to a Redis.
pub struct RevocationWriter {
    list: Arc<dyn Revocations>,
    names: Names,
    /// Sessions that are closed in Redis and not yet in the list. The requests that closed them got errors.
    pending: Mutex<Vec<SessionId>>,
}

impl RevocationWriter {
    /// A writer of this list, for sessions under these names.
    pub fn new(list: Arc<dyn Revocations>, names: Names) -> Self {
        Self { list, names, pending: Mutex::default() }
    }

    /// The names in Redis.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Adds sessions to the list. After an error [`RevocationWriter::flush`] retries.
    pub async fn add(&self, closed: Vec<SessionId>) -> Result<(), Error> {
        let added = self.list.add(&closed).await;
        if added.is_err() {
            let mut pending = self.pending();
            let room = MAX_PENDING.saturating_sub(pending.len());
            pending.extend(closed.into_iter().take(room));
        }
        added
    }

    /// Writes the pending sessions.
    pub async fn flush(&self) -> Result<(), Error> {
        let pending = std::mem::take(&mut *self.pending());
        if pending.is_empty() { Ok(()) } else { self.add(pending).await }
    }

    /// A number larger than all earlier ones, and larger than `seen`.
    pub async fn generation(&self, seen: u64) -> Result<u64, Error> {
        self.list.generation(seen).await
    }

    /// Closes all sessions of the list in `redis`. Returns the number of keys that existed.
    pub async fn revoke_all(&self, redis: &mut MultiplexedConnection) -> Result<usize, Error> {
        let mut parts = self.list.parts().await?;
        let mut revoked = 0;
        while let Some(part) = timeout(PART_TIMEOUT, parts.try_next()).await.map_err(unavailable)?? {
            revoked += revoke_part(redis, &self.names, &part).await.map_err(unavailable)?;
        }
        Ok(revoked)
    }

    fn pending(&self) -> MutexGuard<'_, Vec<SessionId>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn revoke_part(
    redis: &mut MultiplexedConnection,
    names: &Names,
    part: &[SessionId],
) -> Result<usize, redis::RedisError> {
    if part.is_empty() {
        return Ok(0);
    }
    let mut script = scripts::REVOKE_ALL.prepare_invoke();
    script.arg(&names.channel);
    for session in part {
        script.key(names.session(session)).arg(session.as_str());
    }
    script.invoke_async(redis).await
}
