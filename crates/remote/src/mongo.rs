//! The MongoDB that several processes share: writes that are acknowledged once they are in the journals of a majority, reads of what a
//! majority has, and a bounded time per call.

use std::{
    future::{Future, IntoFuture},
    time::Duration,
};

use mongodb::{
    Client, Collection, Database,
    bson::{DateTime, Document, doc, oid::ObjectId},
    error::{Error as MongoError, ErrorKind, WriteFailure},
    options::{
        Acknowledgment, ClientOptions, CollectionOptions, ReadConcern, ReadPreference, ReturnDocument,
        SelectionCriteria, WriteConcern,
    },
};
use tokio::time::timeout;

use crate::Deployment;

/// The maximum time of one call, including the server selection.
pub const DEADLINE: Duration = Duration::from_millis(3500);

/// The maximum time that a write waits for the majority. The outcome of a write that takes longer is unknown.
const MAJORITY: Duration = Duration::from_secs(3);

/// How long server selection and the opening of a connection may take. A call waits this long for a new primary.
const SELECTION: Duration = Duration::from_secs(2);

/// The interval of the health checks of servers, which detect a frozen primary.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The maximum number of connections to one server, unless the address sets it.
const CONNECTIONS: u32 = 64;

/// The database when the address names none.
const DATABASE: &str = "godzilla";

/// The error code of a write that would create a second document with the key of a unique index.
const DUPLICATE_KEY: i32 = 11_000;

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

/// Why there is no client for an address. Never contains the address, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum NotConnected {
    /// It has another form.
    #[error(
        "expected an address such as mongodb://user:password@host/database?replicaSet=name, with options that the driver has, and with % : @ / ? # in a user or password percent-encoded"
    )]
    Address,
    /// DNS does not name its hosts.
    #[error("its hosts are not found in DNS: {0}")]
    Dns(String),
}

/// A database, and the deployment whose collections are in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    /// The database.
    pub database: Database,
    /// The deployment.
    pub deployment: Deployment,
}

impl Store {
    /// The collections of `deployment` in the database that `uri` names. Looks hosts up in DNS for `mongodb+srv`, and does not connect:
    /// MongoDB may be unavailable.
    ///
    /// # Errors
    /// When the address is not valid, or DNS does not name its hosts.
    pub async fn new(uri: &str, deployment: &Deployment) -> Result<Self, NotConnected> {
        let mut options = ClientOptions::parse(uri).await.map_err(|error| match &*error.kind {
            ErrorKind::DnsResolve { message, .. } => NotConnected::Dns(message.clone()),
            _ => NotConnected::Address,
        })?;
        set_bounds(&mut options);
        let client = Client::with_options(options).map_err(|_| NotConnected::Address)?;
        let database = client.default_database().unwrap_or_else(|| client.database(DATABASE));
        Ok(Self { database, deployment: deployment.clone() })
    }

    /// The collection `name` of the deployment. Options of the address do not override its durability.
    pub fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        let durable =
            WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(MAJORITY).build();
        let options = CollectionOptions::builder()
            .write_concern(durable)
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        self.database.collection_with_options(&self.deployment.collection(name), options)
    }

    /// The id of the store, 16 hex digits, which its first caller creates and which never changes.
    ///
    /// # Errors
    /// When MongoDB does not answer.
    pub async fn id(&self) -> Result<String, Unanswered> {
        let new = doc! { "$setOnInsert": { "id": &ObjectId::new().to_hex()[8..] } };
        let ids = self.collection::<Document>("store");
        let found = ids.find_one_and_update(doc! { "_id": 1 }, new).upsert(true);
        let found = answered(found.return_document(ReturnDocument::After)).await?;
        Ok(found.and_then(|found| found.get_str("id").ok().map(str::to_owned)).unwrap_or_default())
    }

    /// Writes a document that nobody reads. For readiness.
    ///
    /// # Errors
    /// When MongoDB does not answer, or does not confirm the write.
    pub async fn check(&self) -> Result<(), Unanswered> {
        let (checked, now) =
            (self.collection::<Document>("checked"), doc! { "$set": { "at": DateTime::now() } });
        answered(checked.update_one(doc! { "_id": 1 }, now).upsert(true)).await.map(drop)
    }
}

impl From<&Database> for Store {
    /// The default deployment in `database`.
    fn from(database: &Database) -> Self {
        Self { database: database.clone(), deployment: Deployment::default() }
    }
}

impl From<&Self> for Store {
    fn from(store: &Self) -> Self {
        store.clone()
    }
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

/// Whether a write was refused because a document with the same `_id`, or the same key of another unique index, exists.
pub fn is_duplicate(error: &MongoError) -> bool {
    let code = match &*error.kind {
        ErrorKind::Command(refused) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteError(refused)) => Some(refused.code),
        ErrorKind::InsertMany(failed) => {
            failed.write_errors.as_deref().and_then(<[_]>::first).map(|refused| refused.code)
        }
        _ => None,
    };
    code == Some(DUPLICATE_KEY)
}

/// Sets the options on which promises depend. Times of the address have an effect only if they are shorter. Concerns of the address have
/// none: they would apply to commands such as the creation of an index.
fn set_bounds(options: &mut ClientOptions) {
    (options.write_concern, options.read_concern, options.selection_criteria) = (None, None, None);
    // Zero means no timeout to the driver.
    let bounded = |given: Option<Duration>, max: Duration| {
        Some(given.filter(|given| !given.is_zero()).map_or(max, |given| given.min(max)))
    };
    options.server_selection_timeout = bounded(options.server_selection_timeout, SELECTION);
    options.connect_timeout = bounded(options.connect_timeout, SELECTION);
    options.heartbeat_freq = bounded(options.heartbeat_freq, HEARTBEAT);
    options.max_pool_size.get_or_insert(CONNECTIONS);
    options.app_name.get_or_insert_with(|| DATABASE.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn options_of_the_address_change_no_promise() {
        let weak = "mongodb://127.0.0.1:1/x?w=0&readPreference=secondary&readConcernLevel=local&serverSelectionTimeoutMS=0&connectTimeoutMS=90000";
        let mut options = ClientOptions::parse(weak).await.unwrap();
        set_bounds(&mut options);
        assert_eq!(
            (options.server_selection_timeout, options.connect_timeout),
            (Some(SELECTION), Some(SELECTION))
        );
        let store = Store::new(weak, &Deployment::default()).await.unwrap();
        assert!(store.database.write_concern().is_none() && store.database.selection_criteria().is_none());
        let documents = store.collection::<Document>("y");
        let write = documents.write_concern().unwrap();
        assert_eq!((&write.w, write.journal), (&Some(Acknowledgment::Majority), Some(true)));
        assert_eq!(documents.read_concern(), Some(&ReadConcern::majority()));
        let read = documents.selection_criteria();
        assert!(matches!(read, Some(SelectionCriteria::ReadPreference(ReadPreference::Primary))), "{read:?}");
    }

    #[tokio::test]
    async fn an_address_that_is_refused_is_not_quoted() {
        for uri in ["s3cret", "mongodb://u:s3/cret@h/x", "mongodb://u:s3cret@h/x?maxPoolSize=s3cret", ""] {
            let refused = Store::new(uri, &Deployment::default()).await.unwrap_err();
            assert!(!refused.to_string().contains("s3"), "{uri}: {refused}");
        }
    }
}
