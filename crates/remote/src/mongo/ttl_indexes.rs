//! Detection of TTL indexes of another program, by which MongoDB deletes documents of the roles.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mongodb::bson::Document;
use tokio::time::Instant;

use super::{Documents, Store, answered, collection};

/// The interval between two checks while no such index exists.
const INTERVAL: Duration = Duration::from_secs(10);

/// The check of collections that have no TTL index of the roles. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TtlIndexes {
    collections: Arc<[Documents<Document>]>,
    /// When all collections were found to have no such index.
    checked: Arc<Mutex<Option<Instant>>>,
}

impl TtlIndexes {
    /// The check of the collections of these names in `store`.
    pub fn new(store: &Store, names: &[&str]) -> Self {
        let collections = names.iter().map(|name| collection(store.ungated(), name)).collect();
        Self { collections, checked: Arc::default() }
    }

    /// The first such index and its remedy, as a phrase that follows "MongoDB". `None` without one, and when MongoDB does not list the
    /// indexes. A result without an index is cached for 10 s.
    pub async fn problem(&self) -> Option<String> {
        let is_fresh = |at: &Instant| at.elapsed() < INTERVAL;
        if self.checked.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(is_fresh) {
            return None;
        }
        for documents in self.collections.iter() {
            // A collection that does not exist has no indexes.
            let Ok(indexes) = answered(documents.indexes()).await else { continue };
            let of_ttl = indexes
                .into_iter()
                .filter_map(|index| index.options)
                .find(|options| options.expire_after.is_some());
            if let Some(options) = of_ttl {
                let (name, index) = (documents.name(), options.name.unwrap_or_default());
                return Some(format!(
                    "deletes documents of the collection {name} by age: another program has created the TTL index {index}; drop it with db.getCollection(\"{name}\").dropIndex(\"{index}\")"
                ));
            }
        }
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        None
    }
}
