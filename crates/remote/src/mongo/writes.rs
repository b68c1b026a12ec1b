//! Detection of a MongoDB that serves reads and rejects writes, because of a full disk, a lost majority or a revoked permission.

use std::{
    future::IntoFuture,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mongodb::{
    Database,
    bson::{DateTime, Document, doc},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    Documents, Operation, Refusals, Store, Unanswered, answered,
    cause::{LOCKED, UNCONFIRMED, of},
    collection,
};

/// The collection of the document that is written.
const COLLECTION: &str = "written";

/// The interval between two trial writes at least. A result is cached for this long.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time that a caller waits for the result of a write. Readiness checks have a deadline of one second.
const MAX_WAIT: Duration = Duration::from_millis(600);

/// A write that takes longer is reported as not acknowledged.
const SLOW: Duration = Duration::from_secs(2);

/// The maximum time of the question whether MongoDB is locked.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// Checks that a store accepts writes. Cheap to clone; clones share the result.
#[derive(Debug, Clone)]
pub struct Writes {
    documents: Documents<Document>,
    database: Database,
    /// The refused writes of the roles themselves.
    refusals: Refusals,
    state: Arc<Mutex<State>>,
    finished: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// The start of a write that has no result yet.
    pending: Option<Instant>,
    /// The time and the result of the last write.
    last: Option<(Instant, Option<String>)>,
}

/// Whether MongoDB is locked by fsyncLock. A user needs no right to list its own operations. `false` when MongoDB does not answer.
pub(super) async fn is_locked(database: &Database) -> bool {
    let admin = database.client().database("admin");
    let operations = admin.run_command(doc! { "currentOp": 1, "$ownOps": true });
    let answer = timeout(LOCK_TIMEOUT, operations.into_future()).await;
    matches!(answer, Ok(Ok(answer)) if answer.get_bool("fsyncLock").unwrap_or(false))
}

/// A guard of a write that has begun. When it is dropped before the write has a result, because the driver panicked, it records
/// a failure, so that the next write can begin.
struct Unfinished(Writes);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.0.state().pending.is_some() {
            self.0.finish(Some(UNCONFIRMED.to_owned()));
        }
    }
}

impl Writes {
    /// Checks writes to `store`, which need not be reachable yet.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        let (database, refusals) = (store.database.clone(), store.refusals.clone());
        let documents = collection(store.ungated(), COLLECTION);
        Self { documents, database, refusals, state: Arc::default(), finished: Arc::default() }
    }

    /// The cause that prevents writes, as a phrase that follows "MongoDB": of all writes, or of the collections and operations whose last
    /// write was refused. `None` when writes are accepted. Returns within a second, even when MongoDB does not respond.
    pub async fn not_ready_reason(&self) -> Option<String> {
        match self.of_trial().await {
            Some(reason) if reason == UNCONFIRMED && is_locked(&self.database).await => {
                Some(LOCKED.to_owned())
            }
            Some(reason) => Some(reason),
            None => self.refusals.not_ready_reason().await,
        }
    }

    /// The refused writes without which the role works, as [`Refusals::degradation`].
    pub async fn degradation(&self) -> Option<String> {
        self.refusals.degradation().await
    }

    /// The cause that prevents a trial write. Starts one when the last result is older than 1 s; concurrent callers share it.
    async fn of_trial(&self) -> Option<String> {
        let mut finished = std::pin::pin!(self.finished.notified());
        finished.as_mut().enable();
        if self.begin() {
            tokio::spawn(self.clone().write());
        }
        if self.state().pending.is_some() {
            let _ = timeout(MAX_WAIT, finished).await;
        }
        let state = self.state();
        match (state.pending, &state.last) {
            (Some(since), _) if since.elapsed() >= SLOW => Some(UNCONFIRMED.to_owned()),
            (Some(_), None) => Some(UNCONFIRMED.to_owned()),
            (_, last) => last.as_ref().and_then(|(_, not_ready_reason)| not_ready_reason.clone()),
        }
    }

    /// Whether a write is due. Marks it as pending.
    fn begin(&self) -> bool {
        let mut state = self.state();
        let is_fresh = state.last.as_ref().is_some_and(|(at, _)| at.elapsed() < INTERVAL);
        let is_due = state.pending.is_none() && !is_fresh;
        if is_due {
            state.pending = Some(Instant::now());
        }
        is_due
    }

    async fn write(self) {
        let unfinished = Unfinished(self.clone());
        let update = doc! { "$set": { "at": DateTime::now() } };
        let write = self.documents.write(Operation::Update, async |documents| {
            documents.update_one(doc! { "_id": 1 }, update).upsert(true).await
        });
        let not_ready_reason = answered(write).await.err().map(|error| match error {
            Unanswered::Late => UNCONFIRMED.to_owned(),
            Unanswered::Mongo(error) if of(&error) == UNCONFIRMED => UNCONFIRMED.to_owned(),
            error => {
                let operation = format!("{} {}", Operation::Update.phrase(), self.documents.name());
                error.description_of(&operation)
            }
        });
        self.finish(not_ready_reason);
        drop(unfinished);
    }

    fn finish(&self, not_ready_reason: Option<String>) {
        *self.state() = State { pending: None, last: Some((Instant::now(), not_ready_reason)) };
        self.finished.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
