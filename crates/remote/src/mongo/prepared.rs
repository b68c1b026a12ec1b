//! Indexes that can be dropped while the process runs: checked again now and then, and created where they are missing.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

/// Indexes that were seen are not looked for again in this time.
const FRESH: Duration = Duration::from_secs(10);

/// When the indexes of a collection were last seen. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Prepared(Arc<Mutex<Option<Instant>>>);

impl Prepared {
    /// Does `create`, which creates the indexes that are missing, unless that was done within the last 10 s. One call at a time.
    ///
    /// # Errors
    /// Those of `create`. Then the next call does it again.
    pub async fn ensure<E>(&self, create: impl Future<Output = Result<(), E>>) -> Result<(), E> {
        let mut seen = self.0.lock().await;
        if seen.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        *seen = None;
        create.await?;
        *seen = Some(Instant::now());
        Ok(())
    }

    /// Whether the next call would check, and no other one does.
    pub fn is_due(&self) -> bool {
        self.0.try_lock().is_ok_and(|seen| seen.is_none_or(|at| at.elapsed() >= FRESH))
    }

    /// The next call checks again.
    pub async fn forget(&self) {
        *self.0.lock().await = None;
    }
}
