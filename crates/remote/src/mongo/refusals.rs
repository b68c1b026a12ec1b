//! The record of refused writes: for each collection and operation the last write that MongoDB refused or did not answer. A write of a
//! role can be refused while another collection accepts writes, because of a validator, a right or a lock of one collection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use mongodb::{
    Collection,
    bson::{Document, doc},
    error::Error as MongoError,
};
use tokio::time::{Instant, timeout};

use super::{DEADLINE, cause, duplicates::OwnIndexes};

/// A write without a result after this time counts as not answered.
const SLOW: Duration = Duration::from_secs(2);

/// The time after the last refusal before which no trial clears the record: real writes can be refused where a trial is accepted.
const QUIET: Duration = Duration::from_secs(5);

/// The time after which a refusal expires when no trial is possible.
const EXPIRY: Duration = Duration::from_secs(30);

/// The interval between two trials of one operation at least.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time that a readiness check waits for trials. Trials continue in the background.
const MAX_WAIT: Duration = Duration::from_millis(300);

/// A kind of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Inserts documents.
    Insert,
    /// Updates or upserts a document.
    Update,
    /// Deletes documents.
    Delete,
    /// Creates indexes.
    Index,
}

impl Operation {
    /// The operation, as a phrase before the name of the collection.
    pub(super) fn phrase(self) -> &'static str {
        match self {
            Self::Insert => "insert into",
            Self::Update => "update of",
            Self::Delete => "delete from",
            Self::Index => "createIndexes of",
        }
    }
}

/// What trial writes to a collection need.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub documents: Collection<Document>,
    pub document: fn() -> Document,
    pub own: OwnIndexes,
}

/// The last failure of an operation.
#[derive(Debug, Clone)]
struct Refused {
    /// The cause, as a phrase that follows "MongoDB".
    phrase: &'static str,
    /// The code and the name of the error. Empty when no answer arrived.
    code: String,
    /// The last failure of a real write.
    last: Instant,
    /// The start of the last trial.
    tried: Option<Instant>,
    /// Whether a second real write or a trial was refused, too, or the write was not answered, or a unique index of another program refuses
    /// it. Another refusal alone can be transient, so it is tried at once and not reported.
    is_confirmed: bool,
}

/// A collection and an operation.
type Key = (String, Operation);

/// The refused writes of one store. At most one entry per collection and operation. Cheap to clone; clones share the record.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    refused: HashMap<Key, Refused>,
    trials: HashMap<String, Trial>,
    /// The writes without which the role works, with the effect of their refusal.
    optional: HashMap<Key, &'static str>,
}

/// A write that has begun. Records a write that is dropped without a result.
pub(super) struct Begun<'a> {
    refusals: &'a Refusals,
    collection: &'a str,
    operation: Operation,
    own: OwnIndexes,
    since: Instant,
    is_finished: bool,
}

impl Begun<'_> {
    /// Ends a write that shows nothing.
    pub fn ignore(mut self) {
        self.is_finished = true;
    }

    /// Records the result.
    pub fn finish(mut self, error: Option<&MongoError>) {
        self.is_finished = true;
        let key = (self.collection.to_owned(), self.operation);
        match error {
            None => drop(self.refusals.record().refused.remove(&key)),
            Some(error) => {
                if let Some((phrase, code)) = cause::refusal_of_store(error, self.operation, self.own) {
                    self.refusals.add(key, phrase, code);
                }
            }
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_finished && self.since.elapsed() >= SLOW {
            let key = (self.collection.to_owned(), self.operation);
            self.refusals.add(key, cause::NO_WRITE, String::new());
        }
    }
}

impl Refusals {
    pub(super) fn begin<'a>(
        &'a self,
        collection: &'a str,
        operation: Operation,
        own: OwnIndexes,
    ) -> Begun<'a> {
        Begun { refusals: self, collection, operation, own, since: Instant::now(), is_finished: false }
    }

    pub(super) fn set_trial(&self, collection: &str, trial: Trial) {
        self.record().trials.insert(collection.to_owned(), trial);
    }

    /// The trials, by the name of their collection.
    pub(super) fn trials(&self) -> Vec<(String, Trial)> {
        self.record().trials.iter().map(|(name, trial)| (name.clone(), trial.clone())).collect()
    }

    pub(super) fn set_optional(&self, collection: &str, operation: Operation, effect: &'static str) {
        self.record().optional.insert((collection.to_owned(), operation), effect);
    }

    /// The causes of the refused writes without which the role does not work, as a phrase that follows "MongoDB". `None` when the last write
    /// of each kind was accepted. Tries refused operations again, so that the record is also cleared when no client writes. Returns within
    /// 300 ms.
    pub async fn not_ready_reason(&self) -> Option<String> {
        self.try_again().await;
        self.described(|_, effect| effect.is_none())
    }

    /// The causes and effects of the refused writes without which the role works, otherwise as [`Refusals::not_ready_reason`].
    pub async fn degradation(&self) -> Option<String> {
        self.try_again().await;
        self.described(|_, effect| effect.is_some())
    }

    /// The cause and effect of the refusal of one optional write, for a role that needs this write at the moment.
    pub(super) fn of_optional(&self, collection: &str, operation: Operation) -> Option<String> {
        self.described(|key, effect| effect.is_some() && key.0 == collection && key.1 == operation)
    }

    /// Starts the trials that are due, and waits for them for at most [`MAX_WAIT`].
    async fn try_again(&self) {
        let due = self.due();
        if !due.is_empty() {
            let this = self.clone();
            let trials = tokio::spawn(async move {
                join_all(due.into_iter().map(|(key, trial)| this.clone().attempt(key, trial))).await;
            });
            let _ = timeout(MAX_WAIT, trials).await;
        }
    }

    /// The causes of the refused writes that `is_selected` accepts, given the write and the effect of an optional one.
    fn described(&self, is_selected: impl Fn(&Key, Option<&str>) -> bool) -> Option<String> {
        let record = self.record();
        let is_reported = |key: &Key, refused: &Refused| {
            refused.is_confirmed || key.1 == Operation::Index || !record.trials.contains_key(&key.0)
        };
        let effect = |key: &Key| record.optional.get(key).copied();
        let mut refused: Vec<(&Key, &Refused)> = record
            .refused
            .iter()
            .filter(|(key, refused)| is_reported(key, refused) && is_selected(key, effect(key)))
            .collect();
        refused.sort_by_key(|(key, _)| *key);
        let described = refused.iter().map(|(key, refused)| {
            let ((collection, operation), code) = (key, &refused.code);
            let code = if code.is_empty() { String::new() } else { format!(": {code}") };
            let effect = effect(key).map(|effect| format!("; {effect}")).unwrap_or_default();
            format!("{} ({} {collection}{code}){effect}", refused.phrase, operation.phrase())
        });
        let described: Vec<String> = described.collect();
        (!described.is_empty()).then(|| described.join(", and "))
    }

    /// Removes the expired entries. Returns the trials that are due, and marks them as begun.
    fn due(&self) -> Vec<(Key, Trial)> {
        let mut record = self.record();
        let Record { refused, trials, .. } = &mut *record;
        let trial_of = |(collection, operation): &Key| {
            trials.get(collection).filter(|_| *operation != Operation::Index).cloned()
        };
        refused.retain(|key, refused| trial_of(key).is_some() || refused.last.elapsed() < EXPIRY);
        let due = refused.iter_mut().filter_map(|(key, refused)| {
            let trial = trial_of(key)?;
            // A write without an answer is not the fault of its document.
            let is_quiet =
                !refused.is_confirmed || refused.code.is_empty() || refused.last.elapsed() >= QUIET;
            let is_due = is_quiet && refused.tried.is_none_or(|at| at.elapsed() >= INTERVAL);
            is_due.then(|| refused.tried = Some(Instant::now()))?;
            Some((key.clone(), trial))
        });
        due.collect()
    }

    /// Tries an operation. Clears its entry when MongoDB accepts it and no real write was refused meanwhile.
    async fn attempt(self, key: Key, trial: Trial) {
        let begun = Instant::now();
        let Ok(tried) = timeout(DEADLINE, attempt(&trial, key.1)).await else { return };
        let mut record = self.record();
        let Some(refused) = record.refused.get_mut(&key) else { return };
        match tried {
            Ok(()) if refused.last < begun => drop(record.refused.remove(&key)),
            Ok(()) => {}
            Err(error) => {
                if let Some((phrase, code)) = cause::refusal_of_store(&error, key.1, trial.own) {
                    (refused.phrase, refused.code, refused.is_confirmed) = (phrase, code, true);
                }
            }
        }
    }

    fn add(&self, key: Key, phrase: &'static str, code: String) {
        let mut record = self.record();
        let earlier = record.refused.get(&key);
        let is_confirmed = code.is_empty() || phrase == cause::FOREIGN_INDEX || earlier.is_some();
        let tried = earlier.and_then(|refused| refused.tried);
        record.refused.insert(key, Refused { phrase, code, last: Instant::now(), tried, is_confirmed });
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the trial document in a transaction that is aborted, so that no reader gets it.
pub(super) async fn attempt(trial: &Trial, operation: Operation) -> Result<(), MongoError> {
    let documents = &trial.documents;
    let mut session = documents.client().start_session().await?;
    session.start_transaction().await?;
    let document = (trial.document)();
    let id = doc! { "_id": document.get("_id").cloned() };
    let tried = async {
        documents.insert_one(document.clone()).session(&mut session).await?;
        match operation {
            Operation::Update => {
                let mut set = document;
                set.remove("_id");
                documents.update_one(id, doc! { "$set": set }).session(&mut session).await.map(drop)
            }
            Operation::Delete => documents.delete_one(id).session(&mut session).await.map(drop),
            Operation::Insert | Operation::Index => Ok(()),
        }
    };
    let tried = tried.await;
    // The server aborts a transaction whose client is gone.
    let _ = session.abort_transaction().await;
    tried
}
