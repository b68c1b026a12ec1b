//! Tasks beside the one that tells: changes that wait for other nodes, and entries that are too old. Started by
//! [`super::follow`].

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};

use super::{Stream, follow::PAUSE, record::StreamRecord, scripts};
use crate::{Error, redis};

/// How long entries are kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Between two looks at what may be forgotten.
const FORGET: Duration = Duration::from_secs(600);

impl Stream {
    /// The stream is not followed from now on.
    pub(super) fn is_away(&self, why: &Error) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why.to_string();
        self.alive.store(false, Ordering::Release);
        self.position.moved.notify_waiters();
    }

    /// Why the stream is not followed, if so.
    pub fn not_ready_reason(&self) -> Option<String> {
        let why = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (!self.is_alive()).then(|| format!("is not followed: {why}"))
    }
}

/// Tells other nodes of changes, in their order, each until it is told.
pub(super) async fn announce(stream: Arc<Stream>, mut changes: mpsc::Receiver<StreamRecord>) {
    while let Some(line) = changes.recv().await {
        while stream.write(&line).await.is_err() {
            sleep(PAUSE).await;
        }
    }
}

/// Lets the stream forget what is too old.
pub(super) async fn forget(stream: Arc<Stream>) {
    loop {
        let mut script = scripts::FORGET.prepare_invoke();
        for key in [redis::OFFSET, redis::STREAM, redis::MARKS] {
            script.key(stream.redis.key(key));
        }
        script.arg(KEPT_FOR.as_secs());
        let forgotten =
            stream.redis.ask(async |mut redis| script.invoke_async::<Option<u64>>(&mut redis).await);
        if let Err(error) = forgotten.await {
            tracing::debug!(%error, "the log forgets nothing now");
        }
        sleep(FORGET).await;
    }
}
