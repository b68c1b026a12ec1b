//! Trials of everything that the roles do with their collections, for the doctor. Each write runs in a transaction that is aborted, so
//! that no document, collection or index remains.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use mongodb::{
    Collection,
    bson::{Document, doc},
    error::Error as MongoError,
};

use super::{
    Store, Unanswered, answered,
    cause::{LOCKED, UNCONFIRMED},
    collection_settings::{first_batch, unusable},
    duplicates::PRIMARY,
    failure::FOREIGN_INDEX,
    trial::{Operation, Trial, attempt},
    writes::is_locked,
};

/// The operations that are tried, in this order. Each begins with an insert.
const OPERATIONS: [Operation; 3] = [Operation::Insert, Operation::Update, Operation::Delete];

/// Tries the operations of the roles on each collection of `store` that has a trial document: reads, aggregations, indexes and writes.
/// Returns the causes of all failures, each as a phrase that follows "MongoDB", and in brackets the operation.
pub async fn failures(store: &Store) -> Vec<String> {
    let trials = store.refusals.trials();
    let found = join_all(trials.iter().map(|(name, trial)| failure(store, name, trial))).await;
    let mut failures: BTreeSet<String> = found.into_iter().flatten().collect();
    if failures.remove(UNCONFIRMED) {
        let is_locked = is_locked(&store.database).await;
        failures.insert(if is_locked { LOCKED } else { UNCONFIRMED }.to_owned());
    }
    failures.into_iter().collect()
}

/// The first failure of the operations on one collection.
async fn failure(store: &Store, name: &str, trial: &Trial) -> Option<String> {
    let described = |operation: &str, error: &Unanswered| match error {
        Unanswered::Late => UNCONFIRMED.to_owned(),
        error => format!("{} ({operation} {name}: {error})", error.not_ready_reason()),
    };
    let listed = store.database.run_command(doc! { "listCollections": 1, "filter": { "name": name } });
    let collection = match answered(listed).await {
        Ok(reply) => first_batch(&reply).into_iter().next(),
        Err(error) => return Some(described("listCollections of", &error)),
    };
    if let Some(reason) = collection.as_ref().and_then(|collection| unusable(name, collection)) {
        return Some(reason);
    }
    if let Err(error) = answered(trial.documents.find_one(doc! { "_id": "" })).await {
        return Some(described("find in", &error));
    }
    let stages = [doc! { "$match": { "_id": "" } }];
    if let Err(error) = answered(trial.documents.aggregate(stages)).await {
        return Some(described("aggregate of", &error));
    }
    if collection.is_some() {
        match answered(store.database.run_command(doc! { "listIndexes": name })).await {
            Ok(reply) => {
                if let Some(index) = foreign_index(&first_batch(&reply), trial) {
                    return Some(format!("{} (index {index} of {name})", FOREIGN_INDEX));
                }
            }
            Err(error) => return Some(described("listIndexes of", &error)),
        }
    }
    if let Err(error) = answered(create_index(&trial.documents, collection.is_some())).await {
        return Some(described("createIndexes of", &error));
    }
    for operation in OPERATIONS {
        if let Err(error) = answered(attempt(trial, operation)).await {
            return Some(described(operation.phrase(), &error));
        }
    }
    None
}

/// A unique index that no role has created.
fn foreign_index(indexes: &[Document], trial: &Trial) -> Option<String> {
    let is_own = |name: &str| name == PRIMARY || trial.own.0.contains(&name);
    let unique = indexes.iter().filter(|index| index.get_bool("unique").unwrap_or(false));
    unique.filter_map(|index| index.get_str("name").ok()).find(|name| !is_own(name)).map(str::to_owned)
}

/// Creates an index that exists, or one in a collection that does not exist, in a transaction that is aborted.
async fn create_index(documents: &Collection<Document>, exists: bool) -> Result<(), MongoError> {
    let database = documents.client().database(&documents.namespace().db);
    let index = |keys: Document, name: &str| doc! { "createIndexes": documents.name(), "indexes": [{ "key": keys, "name": name }] };
    if exists {
        return database.run_command(index(doc! { "_id": 1 }, PRIMARY)).await.map(drop);
    }
    let mut session = documents.client().start_session().await?;
    session.start_transaction().await?;
    let tried = database.run_command(index(doc! { "tried": 1 }, "tried")).session(&mut session).await;
    // The server aborts a transaction whose client is gone.
    let _ = session.abort_transaction().await;
    tried.map(drop)
}
