//! A client of the MongoDB that several processes share: durable writes, reads with read concern "majority", and a bounded time per
//! call. Used by the MongoDB backends of users, revoked sessions, messages and rooms.

mod cause;
mod collection_settings;
mod documents;
mod duplicates;
mod failure;
mod identity;
mod prepared;
mod refusals;
mod trial;
pub mod trials;
mod unusable;
mod writes;

use std::{
    future::{Future, IntoFuture},
    time::Duration,
};

use mongodb::{
    Collection, Database,
    error::Error as MongoError,
    options::{
        Acknowledgment, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
    },
    results::CollectionSpecification,
};
use tokio::time::timeout;

use crate::{Deployment, StoreGate};

pub use cause::{brief, is_refusal};
pub use collection_settings::CollectionSettings;
pub use documents::{Documents, trial_of};
pub use identity::Identity;
pub use prepared::Prepared;
pub use refusals::Refusals;
pub use trial::Operation;
pub use writes::Writes;

/// The maximum time of one call, including the server selection.
pub const DEADLINE: Duration = Duration::from_millis(3500);

/// The maximum time that a write waits for the majority. The outcome of a write that takes longer is unknown.
const MAJORITY: Duration = Duration::from_secs(3);

/// The error code of a write that would create a second document with the key of a unique index.
pub const DUPLICATE_KEY: i32 = 11_000;

/// A failed call to MongoDB.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// MongoDB returned an error, or could not be reached.
    #[error("{}", brief(.0))]
    Mongo(#[from] MongoError),
    /// No response arrived in time. The outcome of a write is unknown.
    #[error("MongoDB does not answer in time")]
    Late,
}

/// A database, the deployment whose collections are in it, and the record of refused writes. Cheap to clone; clones share the record.
#[derive(Debug, Clone)]
pub struct Store {
    /// The database.
    pub database: Database,
    /// The deployment.
    pub deployment: Deployment,
    /// The refused writes to collections of this store.
    pub refusals: Refusals,
    /// The gate of the role that uses the store.
    pub gate: StoreGate,
}

impl Store {
    /// The collections of `deployment` in `database`, with an empty record and without a gate.
    pub fn new(database: Database, deployment: Deployment) -> Self {
        Self { database, deployment, refusals: Refusals::default(), gate: StoreGate::default() }
    }

    /// The same collections, with an empty record of their own and without a gate.
    #[must_use]
    pub fn ungated(&self) -> Self {
        Self::new(self.database.clone(), self.deployment.clone())
    }
}

impl From<&Database> for Store {
    /// The default deployment in `database`.
    fn from(database: &Database) -> Self {
        Self::new(database.clone(), Deployment::default())
    }
}

impl From<&Store> for Store {
    fn from(store: &Store) -> Self {
        store.clone()
    }
}

/// A collection of a store, whose refused writes are recorded in the store.
pub fn collection<T: Send + Sync>(store: impl Into<Store>, name: &str) -> Documents<T> {
    let Store { database, deployment, refusals, gate } = store.into();
    Documents::new(durable(&database, &deployment.collection(name)), refusals, gate)
}

/// A collection whose writes are acknowledged once they are in the journals of a majority. It is read from the primary with read
/// concern "majority". Options of the address do not override these settings.
fn durable<T: Send + Sync>(database: &Database, name: &str) -> Collection<T> {
    let durable =
        WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(MAJORITY).build();
    let options = CollectionOptions::builder()
        .write_concern(durable)
        .read_concern(ReadConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build();
    database.collection_with_options(name, options)
}

/// Awaits `call` for at most [`DEADLINE`].
///
/// # Errors
/// When the call fails or takes longer.
pub async fn answered<T>(
    call: impl IntoFuture<Output = Result<T, MongoError>, IntoFuture: Future>,
) -> Result<T, Unanswered> {
    Ok(timeout(DEADLINE, call.into_future()).await.map_err(|_| Unanswered::Late)??)
}

/// The UUID that MongoDB has assigned to a collection, in lower-case hex. A collection that was dropped or restored has another one. `None`
/// for a server without UUIDs of collections.
pub fn uuid_of(collection: &CollectionSpecification) -> Option<String> {
    Some(collection.info.uuid.as_ref()?.bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use mongodb::{Client, bson::Document};

    use super::*;

    #[tokio::test]
    async fn the_address_does_not_override_the_durability_settings() {
        let weak = "mongodb://127.0.0.1:1/x?w=0&readPreference=secondary&readConcernLevel=local";
        let database = Client::with_uri_str(weak).await.unwrap().database("x");
        let documents = durable::<Document>(&database, "y");
        let write = documents.write_concern().unwrap();
        assert_eq!((&write.w, write.journal), (&Some(Acknowledgment::Majority), Some(true)));
        assert_eq!(documents.read_concern(), Some(&ReadConcern::majority()));
        let read = documents.selection_criteria();
        assert!(matches!(read, Some(SelectionCriteria::ReadPreference(ReadPreference::Primary))), "{read:?}");
    }
}
