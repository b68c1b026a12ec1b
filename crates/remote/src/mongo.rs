//! A client of the MongoDB that several processes share: durable writes, reads with read concern "majority", and a bounded time per
//! call. Used by the MongoDB backends of users, revoked sessions, messages and rooms.

mod cause;
mod prepared;
mod writes;

use std::{
    future::{Future, IntoFuture},
    time::Duration,
};

use mongodb::{
    Collection, Database,
    error::{Error as MongoError, ErrorKind, WriteFailure},
    options::{
        Acknowledgment, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
    },
};
use tokio::time::timeout;

use crate::Deployment;

pub use prepared::Prepared;
pub use writes::Writes;

/// The maximum time of one call, including the server selection.
pub const DEADLINE: Duration = Duration::from_millis(3500);

/// The maximum time that a write waits for the majority. The outcome of a write that takes longer is unknown.
const MAJORITY: Duration = Duration::from_secs(3);

/// The error code of a write that would create a second document with the same unique key.
pub const DUPLICATE_KEY: i32 = 11_000;

/// A failed call to MongoDB.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// MongoDB returned an error, or could not be reached.
    #[error(transparent)]
    Mongo(#[from] MongoError),
    /// No response arrived in time. The outcome of a write is unknown.
    #[error("MongoDB does not answer in time")]
    Late,
}

/// A database, and the deployment whose collections are in it.
#[derive(Debug, Clone)]
pub struct Store {
    /// The database.
    pub database: Database,
    /// The deployment.
    pub deployment: Deployment,
}

impl From<&Database> for Store {
    /// The default deployment in `database`.
    fn from(database: &Database) -> Self {
        Self { database: database.clone(), deployment: Deployment::default() }
    }
}

impl From<&Store> for Store {
    fn from(store: &Store) -> Self {
        store.clone()
    }
}

/// A collection whose writes are acknowledged once they are in the journals of a majority. It is read from the primary with read
/// concern "majority". Options of the address do not override these settings.
pub fn collection<T: Send + Sync>(store: impl Into<Store>, name: &str) -> Collection<T> {
    let Store { database, deployment } = store.into();
    let durable =
        WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(MAJORITY).build();
    let options = CollectionOptions::builder()
        .write_concern(durable)
        .read_concern(ReadConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build();
    database.collection_with_options(&deployment.collection(name), options)
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

/// Whether a write was rejected because its unique key exists already.
pub fn is_duplicate(error: &MongoError) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY)
}

#[cfg(test)]
mod tests {
    use mongodb::{Client, bson::Document};

    use super::*;

    #[tokio::test]
    async fn the_address_does_not_override_the_durability_settings() {
        let weak = "mongodb://127.0.0.1:1/x?w=0&readPreference=secondary&readConcernLevel=local";
        let database = Client::with_uri_str(weak).await.unwrap().database("x");
        let documents = collection::<Document>(&database, "y");
        let write = documents.write_concern().unwrap();
        assert_eq!((&write.w, write.journal), (&Some(Acknowledgment::Majority), Some(true)));
        assert_eq!(documents.read_concern(), Some(&ReadConcern::majority()));
        let read = documents.selection_criteria();
        assert!(matches!(read, Some(SelectionCriteria::ReadPreference(ReadPreference::Primary))), "{read:?}");
    }
}
