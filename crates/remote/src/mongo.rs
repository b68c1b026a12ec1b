//! One MongoDB that many processes share: durable writes, reads of what a majority has, and never for long. The MongoDB backends of
//! users, closed sessions, messages and rooms ask through it.

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

/// How long one call may take, the choice of a server included.
pub const DEADLINE: Duration = Duration::from_millis(3500);

/// How long a write may wait for the majority; what takes longer has no known outcome.
const MAJORITY: Duration = Duration::from_secs(3);

/// What a write says that would make a second document under a unique key.
pub const DUPLICATE_KEY: i32 = 11_000;

/// Why MongoDB did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// It refused, or could not be reached.
    #[error(transparent)]
    Mongo(#[from] MongoError),
    /// It did not answer in time. A write has no known outcome.
    #[error("MongoDB does not answer in time")]
    Late,
}

/// A database, and the deployment whose collections are used there.
#[derive(Debug, Clone)]
pub struct Store {
    /// The database.
    pub database: Database,
    /// The deployment.
    pub deployment: Deployment,
}

impl From<&Database> for Store {
    /// The deployment without a name.
    fn from(database: &Database) -> Self {
        Self { database: database.clone(), deployment: Deployment::default() }
    }
}

impl From<&Store> for Store {
    fn from(store: &Store) -> Self {
        store.clone()
    }
}

/// A collection whose writes are on a majority's disks before they are answered. It is read at the primary, and only what a
/// majority has, whatever the address says.
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

/// What a call comes to, if it does within [`DEADLINE`].
///
/// # Errors
/// When it fails or takes longer.
pub async fn answered<T>(
    call: impl IntoFuture<Output = Result<T, MongoError>, IntoFuture: Future>,
) -> Result<T, Unanswered> {
    Ok(timeout(DEADLINE, call.into_future()).await.map_err(|_| Unanswered::Late)??)
}

/// Whether a write was refused because its unique key is there already.
pub fn is_duplicate(error: &MongoError) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY)
}

#[cfg(test)]
mod tests {
    use mongodb::{Client, bson::Document};

    use super::*;

    #[tokio::test]
    async fn what_the_address_says_of_durability_does_not_count() {
        let careless = "mongodb://127.0.0.1:1/x?w=0&readPreference=secondary&readConcernLevel=local";
        let database = Client::with_uri_str(careless).await.unwrap().database("x");
        let ours = collection::<Document>(&database, "y");
        let written = ours.write_concern().unwrap();
        assert_eq!((&written.w, written.journal), (&Some(Acknowledgment::Majority), Some(true)));
        assert_eq!(ours.read_concern(), Some(&ReadConcern::majority()));
        let read = ours.selection_criteria();
        assert!(matches!(read, Some(SelectionCriteria::ReadPreference(ReadPreference::Primary))), "{read:?}");
    }
}
