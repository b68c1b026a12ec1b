//! The bcrypt cost of a refused login: the highest cost in the store. A hash keeps its cost until its user logs in.
//! If refusals differed in time, their time would reveal which names are registered.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::timeout;

use crate::{Users, config::MAX_COST};

/// Timeout for reading the highest cost. The query reads all users.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two attempts to read it.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// The cost of refusals.
pub struct RefusalCost {
    highest: AtomicU32,
    reading: Mutex<Reading>,
}

/// State of reading the highest cost.
enum Reading {
    /// Not read. Time of the next attempt.
    Due(Instant),
    /// Read.
    Done,
}

impl RefusalCost {
    /// Starts with the cost of new hashes.
    pub fn new(cost: u32) -> Self {
        Self { highest: AtomicU32::new(cost), reading: Mutex::new(Reading::Due(Instant::now())) }
    }

    /// The cost of a refusal. `found` is the cost of the hash that the password is compared with.
    pub async fn for_hash(&self, found: u32, users: &dyn Users) -> u32 {
        if self.is_due() {
            match timeout(READ_TIMEOUT, users.highest_cost()).await {
                Ok(Ok(highest)) => {
                    self.raise(highest.unwrap_or_default());
                    *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Reading::Done;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "highest cost of stored hashes could not be read, retrying later")
                }
                Err(_) => {
                    tracing::warn!("highest cost of stored hashes could not be read in time, retrying later")
                }
            }
        }
        self.raise(found);
        self.highest.load(Ordering::Relaxed)
    }

    /// Whether this call reads the store.
    fn is_due(&self) -> bool {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *reading {
            Reading::Due(at) if *at <= Instant::now() => {
                *at = Instant::now() + RETRY_INTERVAL;
                true
            }
            _ => false,
        }
    }

    fn raise(&self, cost: u32) {
        self.highest.fetch_max(cost.min(MAX_COST), Ordering::Relaxed);
    }
}
