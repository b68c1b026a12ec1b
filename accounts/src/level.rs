//! The cost of a refused login: that of the most expensive hash in the store, for every name. A hash keeps the cost that it was
//! made with until its user logs in. If some refusals were faster than others, their time would show which names are registered.
//! Used by [`People`](crate::people::People).

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::timeout;

use crate::{Users, config::MAX_COST};

/// How long a login waits for the store's highest cost. It reads all users once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts to get it.
const AGAIN: Duration = Duration::from_secs(60);

/// The cost of a refusal.
pub struct Level {
    highest: AtomicU32,
    reading: Mutex<Reading>,
}

/// Whether the store's highest cost was read.
enum Reading {
    /// No; the next attempt is not before this time.
    Due(Instant),
    /// Yes.
    Done,
}

impl Level {
    /// At least the cost of new hashes.
    pub fn new(cost: u32) -> Self {
        Self { highest: AtomicU32::new(cost), reading: Mutex::new(Reading::Due(Instant::now())) }
    }

    /// The cost of a refusal, given that of the hash that the password is compared with.
    pub async fn with(&self, found: u32, users: &dyn Users) -> u32 {
        if self.is_due() {
            match timeout(PATIENCE, users.highest_cost()).await {
                Ok(Ok(highest)) => {
                    self.raise(highest.unwrap_or_default());
                    *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Reading::Done;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the costs of stored passwords are not known yet"),
                Err(_) => {
                    tracing::warn!("the costs of stored passwords are not known yet: no answer in time")
                }
            }
        }
        self.raise(found);
        self.highest.load(Ordering::Relaxed)
    }

    /// Whether the store is to be read by this call.
    fn is_due(&self) -> bool {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *reading {
            Reading::Due(at) if *at <= Instant::now() => {
                *at = Instant::now() + AGAIN;
                true
            }
            _ => false,
        }
    }

    fn raise(&self, cost: u32) {
        self.highest.fetch_max(cost.min(MAX_COST), Ordering::Relaxed);
    }
}
