//! Who closes sessions keeps them in the durable list, too, and again when that failed. Called by [`super`] and [`super::run`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt;
use remote::redis::{self, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{names::Names, scripts, unavailable};
use crate::{Error, Revocations, SessionId};

/// Closed sessions that wait for the list at most. Beyond that their closing was refused, and that is all.
const NOT_CONFIRMED: usize = 65_536;

/// How long the list's next part may take.
const PART: Duration = Duration::from_secs(4);

/// See the module.
pub struct RevocationWriter {
    list: Arc<dyn Revocations>,
    names: Names,
    /// Closed in Redis, and not in the list: whoever asked was answered with an error.
    untold: Mutex<Vec<SessionId>>,
}

impl RevocationWriter {
    /// With this list.
    pub fn new(list: Arc<dyn Revocations>, names: Names) -> Self {
        Self { list, names, untold: Mutex::default() }
    }

    /// The names in Redis.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Keeps these in the list. After an error it is tried again by [`Keeper::settle`].
    pub async fn add(&self, closed: Vec<SessionId>) -> Result<(), Error> {
        let added = self.list.add(&closed).await;
        if added.is_err() {
            let mut untold = self.untold();
            let room = NOT_CONFIRMED.saturating_sub(untold.len());
            untold.extend(closed.into_iter().take(room));
        }
        added
    }

    /// Keeps what could not be kept before.
    pub async fn settle(&self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut *self.untold());
        if waiting.is_empty() { Ok(()) } else { self.add(waiting).await }
    }

    /// A number larger than every one before, and than `seen`.
    pub async fn generation(&self, seen: u64) -> Result<u64, Error> {
        self.list.generation(seen).await
    }

    /// Closes in `redis` what is closed, and answers how many of them it had as open.
    pub async fn revoke_all(&self, redis: &mut MultiplexedConnection) -> Result<usize, Error> {
        let mut parts = self.list.parts().await?;
        let mut ended = 0;
        while let Some(part) = timeout(PART, parts.try_next()).await.map_err(unavailable)?? {
            ended += revoke_all(redis, &self.names, &part).await.map_err(unavailable)?;
        }
        Ok(ended)
    }

    fn untold(&self) -> MutexGuard<'_, Vec<SessionId>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn revoke_all(
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
