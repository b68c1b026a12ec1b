//! Background tasks of the stream: announces pending changes to other nodes, and trims old records. Started by [`super::follow`].

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};

use super::{Stream, follow::PAUSE, record::StreamRecord, scripts};
use crate::{Error, redis};

/// How long records are kept.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// The interval between two trims.
const TRIM_INTERVAL: Duration = Duration::from_secs(600);

impl Stream {
    /// Marks the stream as unavailable, because of `why`.
    pub(super) fn set_unavailable(&self, why: &Error) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = why.to_string();
        self.available.store(false, Ordering::Release);
        self.position.moved.notify_waiters();
    }

    /// The reason for which the stream is not followed, in words that follow its name. `None` when it is.
    pub(super) fn unavailable_reason(&self) -> Option<String> {
        if self.is_available() {
            return None;
        }
        let why = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(format!("is not followed: {why}"))
    }
}

/// Writes the records of changes in order. Retries each until it succeeds. A change whose record cannot be written at once is applied from
/// the store meanwhile.
pub(super) async fn announce_pending(stream: Arc<Stream>, mut changes: mpsc::Receiver<StreamRecord>) {
    while let Some(record) = changes.recv().await {
        while stream.write_after_earlier(&record).await.is_err() {
            stream.pending.note_failure();
            if let Some(room) = record.room() {
                stream.apply_from_store(room);
            }
            sleep(PAUSE).await;
        }
        stream.pending.note_written();
    }
}

/// Deletes records that are older than [`RETENTION`], again and again.
pub(super) async fn trim(stream: Arc<Stream>) {
    loop {
        let mut script = scripts::TRIM.prepare_invoke();
        for key in [redis::OFFSET, redis::STREAM, redis::MARKS] {
            script.key(stream.redis.key(key));
        }
        script.arg(RETENTION.as_secs());
        let trimmed =
            stream.redis.ask(async |mut redis| script.invoke_async::<Option<u64>>(&mut redis).await);
        if let Err(error) = trimmed.await {
            tracing::debug!(%error, "old records of the stream cannot be trimmed; retrying later");
        }
        sleep(TRIM_INTERVAL).await;
    }
}
