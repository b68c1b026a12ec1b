//! The record of failed writes: for each collection and operation the last write that MongoDB refused or did not answer, or whose
//! connection ended. A write of a role can fail while another collection accepts writes, because of a validator, a right or a lock of one
//! collection, or of a proxy that answers the checks of the connection by itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use mongodb::error::Error as MongoError;
use tokio::time::{Instant, timeout};

use super::{
    DEADLINE,
    duplicates::OwnIndexes,
    failure::{Failure, NO_WRITE_ANSWERED, failure_of_store},
    trial::{Operation, Trial, attempt},
    unusable::Unusable,
};

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

/// The last failure of an operation.
#[derive(Debug, Clone)]
struct Refused {
    failure: Failure,
    /// The last failure of a real write.
    last: Instant,
    /// The start of the last trial.
    tried: Option<Instant>,
    /// Whether a second real write or a trial failed, too, or the failure alone is [`Failure::is_certain`]. Another failure alone can be
    /// transient, so it is tried at once and not reported.
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
    /// The collections in which documents must not be stored, with the cause.
    unusable: HashMap<String, String>,
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
                if let Some(failure) = failure_of_store(error, self.operation, self.own) {
                    self.refusals.add(key, failure);
                }
            }
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_finished && self.since.elapsed() >= SLOW {
            let key = (self.collection.to_owned(), self.operation);
            self.refusals.add(key, NO_WRITE_ANSWERED);
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

    /// Sets why documents must not be stored in a collection. `None` when they can.
    pub(super) fn set_unusable(&self, collection: &str, cause: Option<String>) {
        let unusable = &mut self.record().unusable;
        match cause {
            Some(cause) => _ = unusable.insert(collection.to_owned(), cause),
            None => _ = unusable.remove(collection),
        }
    }

    /// Checks that documents can be stored in a collection.
    pub(super) fn check_usable(&self, collection: &str) -> Result<(), Unusable> {
        self.record().unusable.get(collection).cloned().map_or(Ok(()), |cause| Err(Unusable(cause)))
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
            let has_trial = key.1 != Operation::Index && record.trials.contains_key(&key.0);
            refused.is_confirmed || (!has_trial && !refused.failure.is_of_connection)
        };
        let effect = |key: &Key| record.optional.get(key).copied();
        let mut refused: Vec<(&Key, &Refused)> = record
            .refused
            .iter()
            .filter(|(key, refused)| is_reported(key, refused) && is_selected(key, effect(key)))
            .collect();
        refused.sort_by_key(|(key, _)| *key);
        let described = refused.iter().map(|(key, refused)| {
            let ((collection, operation), Failure { phrase, code, .. }) = (key, &refused.failure);
            let code = if code.is_empty() { String::new() } else { format!(": {code}") };
            let effect = effect(key).map(|effect| format!("; {effect}")).unwrap_or_default();
            format!("{phrase} ({} {collection}{code}){effect}", operation.phrase())
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
            // A trial shows the end of a fault of the connection or of the server as well as a real write.
            let is_quiet =
                !refused.is_confirmed || refused.failure.is_of_connection || refused.last.elapsed() >= QUIET;
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
                if let Some(failure) = failure_of_store(&error, key.1, trial.own) {
                    (refused.failure, refused.is_confirmed) = (failure, true);
                }
            }
        }
    }

    fn add(&self, key: Key, failure: Failure) {
        let mut record = self.record();
        let earlier = record.refused.get(&key);
        let is_confirmed = failure.is_certain() || earlier.is_some();
        let tried = earlier.and_then(|refused| refused.tried);
        record.refused.insert(key, Refused { failure, last: Instant::now(), tried, is_confirmed });
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
