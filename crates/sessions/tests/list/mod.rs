//! A list of closed sessions that outlives Redis.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream, stream::BoxStream};
use sessions::{Error, Revocations, SessionId};

/// See the module.
#[derive(Default)]
pub struct List {
    closed: Mutex<Vec<SessionId>>,
    /// The last generation.
    pub generation: AtomicU64,
}

impl List {
    /// Whether a session is in it.
    pub fn has(&self, session: &SessionId) -> bool {
        self.closed.lock().expect("nobody panicked").contains(session)
    }
}

#[async_trait]
impl Revocations for List {
    async fn add(&self, sessions: &[SessionId]) -> Result<(), Error> {
        self.closed.lock().expect("nobody panicked").extend_from_slice(sessions);
        Ok(())
    }

    async fn generation(&self, seen: u64) -> Result<u64, Error> {
        self.generation.fetch_max(seen, Relaxed);
        Ok(self.generation.fetch_add(1, Relaxed) + 1)
    }

    async fn parts(&self) -> Result<BoxStream<'_, Result<Vec<SessionId>, Error>>, Error> {
        let all = self.closed.lock().expect("nobody panicked").clone();
        Ok(stream::iter([Ok(all)]).boxed())
    }
}
