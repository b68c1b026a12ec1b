//! Detection of collections that another program has set up so that MongoDB deletes documents of the roles or refuses them: capped
//! collections, views, time series, and an expiry by age (a TTL index, or the option of a clustered collection).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mongodb::{
    Database,
    bson::{Bson, Document, doc},
};
use tokio::time::Instant;

use super::{Documents, Refusals, Store, answered, collection};

/// The interval between two checks while there is no problem.
const INTERVAL: Duration = Duration::from_secs(10);

/// The check of some collections. Cheap to clone; clones share the result.
#[derive(Debug, Clone)]
pub struct CollectionSettings {
    database: Database,
    refusals: Refusals,
    collections: Arc<[Checked]>,
    /// When all collections were found without a problem.
    checked: Arc<Mutex<Option<Instant>>>,
}

#[derive(Debug)]
struct Checked {
    documents: Documents<Document>,
    /// Whether the roles have a TTL index on the collection.
    expires: bool,
}

impl CollectionSettings {
    /// The check of the collections of these names in `store`. The roles have a TTL index on those of `expiring` only.
    pub fn new(store: &Store, permanent: &[&str], expiring: &[&str]) -> Self {
        let checked = |name: &str, expires| Checked { documents: collection(store.ungated(), name), expires };
        let permanent = permanent.iter().map(|name| checked(name, false));
        let expiring = expiring.iter().map(|name| checked(name, true));
        Self {
            database: store.database.clone(),
            refusals: store.refusals.clone(),
            collections: permanent.chain(expiring).collect(),
            checked: Arc::default(),
        }
    }

    /// The first problem and its remedy, as a phrase that follows "MongoDB". `None` without one, and when MongoDB does not list the
    /// collections. While a collection has a problem, the roles store no documents in it. A result without a problem is cached for 10 s.
    pub async fn problem(&self) -> Option<String> {
        let is_fresh = |at: &Instant| at.elapsed() < INTERVAL;
        if self.checked.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(is_fresh) {
            return None;
        }
        let names: Vec<&str> = self.collections.iter().map(|checked| checked.documents.name()).collect();
        let list = doc! { "listCollections": 1, "filter": { "name": { "$in": names } } };
        let listed = first_batch(&answered(self.database.run_command(list)).await.ok()?);
        let mut first = None;
        for Checked { documents, expires } in self.collections.iter() {
            let name = documents.name();
            let Some(found) =
                listed.iter().find(|found| found.get_str("name").is_ok_and(|other| other == name))
            else {
                self.refusals.set_unusable(name, None);
                continue;
            };
            let mut problem = unusable(name, found);
            if problem.is_none() && !expires {
                problem = ttl_index(documents).await;
            }
            self.refusals.set_unusable(name, problem.clone());
            first = first.or(problem);
        }
        let is_checked = first.is_none().then(Instant::now);
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = is_checked;
        first
    }
}

/// A TTL index of another program, and the remedy. `None` without one, and when MongoDB does not list the indexes.
async fn ttl_index(documents: &Documents<Document>) -> Option<String> {
    let indexes = answered(documents.indexes()).await.ok()?;
    let of_ttl = indexes
        .into_iter()
        .filter_map(|index| index.options)
        .find(|options| options.expire_after.is_some())?;
    let (name, index) = (documents.name(), of_ttl.name.unwrap_or_default());
    Some(format!(
        "deletes documents of the collection {name} by age: another program has created the TTL index {index}; drop it with db.getCollection(\"{name}\").dropIndex(\"{index}\")"
    ))
}

/// Why the roles cannot use a collection with this description, and the remedy. A phrase that follows "MongoDB".
pub(super) fn unusable(name: &str, collection: &Document) -> Option<String> {
    let options = collection.get_document("options").ok();
    let has = |option: &str| options.and_then(|options| options.get(option)).is_some_and(is_set);
    let other = |kind: &str| {
        format!("has {kind} of another program under the name {name} of a collection of the roles: drop it")
    };
    match collection.get_str("type") {
        Ok("view") => Some(other("a view")),
        Ok("timeseries") => Some(other("a time series")),
        _ if has("capped") => Some(format!(
            "deletes the oldest documents of the collection {name}, which is capped: stop the roles, copy it with db.getCollection(\"{name}\").aggregate([{{$out: \"{name}_copy\"}}]), drop it, and rename the copy to {name}"
        )),
        _ if has("expireAfterSeconds") => Some(format!(
            "deletes documents of the collection {name} by age (expireAfterSeconds): end that with db.runCommand({{collMod: \"{name}\", expireAfterSeconds: \"off\"}})"
        )),
        _ => None,
    }
}

/// Whether the value of an option is set: a number, or true.
fn is_set(value: &Bson) -> bool {
    !matches!(value, Bson::Boolean(false) | Bson::Null | Bson::String(_))
}

/// The documents in the first batch of the reply to a command that lists.
pub(super) fn first_batch(reply: &Document) -> Vec<Document> {
    let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    batch.into_iter().flatten().filter_map(Bson::as_document).cloned().collect()
}
