//! A list of revoked sessions that survives a restart of Redis.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream, stream::BoxStream};
use sessions::{Error, Revocations, SessionId};

/// A list of revoked sessions in memory.
#[derive(Default)]
pub struct List {
    revoked: Mutex<Vec<SessionId>>,
    /// The last generation.
    pub generation: AtomicU64,
}

impl List {
    /// Whether a session is in the list.
    pub fn has(&self, session: &SessionId) -> bool {
        self.revoked.lock().expect("no panic").contains(session)
    }
}

#[async_trait]
impl Revocations for List {
    async fn add(&self, sessions: &[SessionId]) -> Result<(), Error> {
        self.revoked.lock().expect("no panic").extend_from_slice(sessions);
        Ok(())
    }

    async fn generation(&self, seen: u64) -> Result<u64, Error> {
        self.generation.fetch_max(seen, Relaxed);
        Ok(self.generation.fetch_add(1, Relaxed) + 1)
    }

    async fn parts(&self) -> Result<BoxStream<'_, Result<Vec<SessionId>, Error>>, Error> {
        let all = self.revoked.lock().expect("no panic").clone();
        Ok(stream::iter([Ok(all)]).boxed())
    }
}
