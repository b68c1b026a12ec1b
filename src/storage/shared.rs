//! The stores that the processes of a deployment share. They may be unavailable.

use std::{sync::Arc, time::Duration};

use accounts::Users;
use async_trait::async_trait;
use chat::{changes::Changes, directory::Directory, history::History, unpublished::Unpublished};
use remote::{Deployment, Redis, redis::cmd};
use runtime::Backoff;

use crate::{error::Error, secret::Address};

/// Why the roles on MongoDB cannot run.
#[cfg(not(feature = "mongodb"))]
const WITHOUT_MONGODB: &str = "this binary was built without MongoDB, as scripts/run builds it, and cannot run the roles accounts and chat: build it with `cargo build --release --locked`, or use the image";

/// The key in Redis with the id of the store whose deployment it belongs to.
const STORE: &str = "store";

/// The waits between two attempts to compare the stores.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// The stores of durable data. Cheap to clone.
#[derive(Clone)]
pub struct SharedStores {
    /// Users.
    pub users: Arc<dyn Users>,
    /// Messages.
    pub history: Arc<dyn History>,
    /// Rooms and members.
    pub directory: Arc<dyn Directory>,
    /// The latest changes of rooms.
    pub changes: Arc<dyn Changes>,
    /// The rooms with messages that are not in the stream.
    pub unpublished: Arc<dyn Unpublished>,
    /// The backend itself.
    pub backend: Arc<dyn SharedBackend>,
}

/// A backend that may be unavailable.
#[async_trait]
pub trait SharedBackend: Send + Sync {
    /// The name of the backend.
    fn name(&self) -> &'static str;

    /// Prepares the stores of a chat node, for example their indexes.
    ///
    /// # Errors
    /// When the backend does not answer, or refuses.
    async fn prepare(&self) -> Result<(), chat::Error>;

    /// The id of the store, which is created once.
    ///
    /// # Errors
    /// When the backend does not answer.
    async fn id(&self) -> Result<String, Error>;

    /// Writes a document that nobody reads, for `/readyz`. Returns why that fails.
    async fn problem(&self) -> Option<String>;
}

/// Opens the stores of `deployment` in the MongoDB at `uri`, which may be unavailable.
///
/// # Errors
/// When the address is invalid, or this binary was built without MongoDB.
#[cfg(feature = "mongodb")]
pub async fn open_shared(uri: &Address, deployment: &Deployment) -> Result<SharedStores, Error> {
    super::mongo::open(uri, deployment).await
}

/// The version of the MongoDB at `uri`, for the doctor.
///
/// # Errors
/// When the address is invalid, or MongoDB does not answer.
#[cfg(feature = "mongodb")]
pub async fn mongodb_version(uri: &Address) -> Result<String, Error> {
    super::mongo::version(uri).await
}

#[cfg(not(feature = "mongodb"))]
pub async fn open_shared(_: &Address, _: &Deployment) -> Result<SharedStores, Error> {
    Err(Error::Config(WITHOUT_MONGODB.to_owned()))
}

#[cfg(not(feature = "mongodb"))]
pub async fn mongodb_version(_: &Address) -> Result<String, Error> {
    Err(Error::Config(WITHOUT_MONGODB.to_owned()))
}

/// Waits until both stores answer, and compares the id of the store with that in `redis`. Called once at the start of a role. The first role
/// of a deployment writes the id: a Redis of other roles has sessions of other users of the same names.
///
/// # Errors
/// When Redis belongs to the roles of another store.
pub async fn compare(stores: &SharedStores, redis: &Redis) -> Result<(), Error> {
    let key = redis.key(STORE);
    let mut backoff = BACKOFF;
    loop {
        let read = async {
            let id = stores.backend.id().await.map_err(|error| error.to_string())?;
            let set = async |mut redis: remote::Connection| {
                let mut set = cmd("SET");
                set.arg(&key).arg(&id).arg("NX").arg("GET");
                set.query_async::<Option<String>>(&mut redis).await
            };
            let found = redis.ask(set).await.map_err(|error| format!("Redis: {error}"))?;
            Ok::<_, String>((found.unwrap_or_else(|| id.clone()), id))
        };
        match read.await {
            Ok((found, id)) if found == id => return Ok(()),
            Ok((found, id)) => {
                return Err(Error::Config(format!(
                    "Redis belongs to the roles of another {} database (its key {key} is {found}, and the id of this database is {id}): correct --mongo-uri (GODZILLA_MONGO_URI) or --redis-url (GODZILLA_REDIS_URL), set --deployment (GODZILLA_DEPLOYMENT), or empty Redis",
                    stores.backend.name()
                )));
            }
            Err(error) => tracing::debug!(error, "the stores are not compared; retrying"),
        }
        backoff.wait().await;
    }
}
