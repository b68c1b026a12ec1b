//! Periodic checks of indexes, which an operator can drop while the process runs. Missing indexes are created.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

/// The interval between two checks at least.
const INTERVAL: Duration = Duration::from_secs(10);

/// The time of the last check of the indexes of a collection. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Prepared(Arc<Mutex<Option<Instant>>>);

impl Prepared {
    /// Runs `create`, which creates the missing indexes, unless it succeeded within the last 10 s. One call runs at a time.
    ///
    /// # Errors
    /// The error of `create`. The next call then runs it again.
    pub async fn ensure<E>(&self, create: impl Future<Output = Result<(), E>>) -> Result<(), E> {
        let mut checked = self.0.lock().await;
        if checked.is_some_and(|at| at.elapsed() < INTERVAL) {
            return Ok(());
        }
        *checked = None;
        create.await?;
        *checked = Some(Instant::now());
        Ok(())
    }

    /// Whether a check is due and no check is in progress.
    pub fn is_due(&self) -> bool {
        self.0.try_lock().is_ok_and(|checked| checked.is_none_or(|at| at.elapsed() >= INTERVAL))
    }

    /// Makes the next call of [`Prepared::ensure`] check again.
    pub async fn invalidate(&self) {
        *self.0.lock().await = None;
    }
}
