//! Users in MongoDB, for services in several processes. Used through [`Users`]; the binary connects.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::{
    Collection, Database,
    bson::{DateTime, doc},
    error::{Error as MongoError, ErrorKind, WriteFailure},
    options::{Acknowledgment, CollectionOptions, ReadConcern, WriteConcern},
};
use proto::Username;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{Creation, User, Users};
use crate::Error;

/// The collection.
const COLLECTION: &str = "users";

/// How long MongoDB may take, the choice of a server included.
const DEADLINE: Duration = Duration::from_secs(4);

/// What a write says that would make a second document of one `_id`.
const DUPLICATE_KEY: i32 = 11_000;

/// Users in one collection. A name is its `_id` in folded form, so that MongoDB itself keeps it unique.
#[derive(Debug, Clone)]
pub struct MongoUsers {
    users: Collection<Stored>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "_id")]
    key: String,
    username: String,
    hash: String,
    created: DateTime,
}

impl MongoUsers {
    /// Users in `database`, which need not be there yet. A user is created on a majority's disks before the answer, and read
    /// only from what a majority has.
    pub fn new(database: &Database) -> Self {
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        let options =
            CollectionOptions::builder().write_concern(durable).read_concern(ReadConcern::majority()).build();
        Self { users: database.collection_with_options(COLLECTION, options) }
    }

    /// Whether MongoDB answers. For `/readyz`.
    pub async fn is_ready(&self) -> bool {
        self.find("").await.is_ok()
    }
}

#[async_trait]
impl Users for MongoUsers {
    async fn create(&self, username: &Username, hash: &str) -> Result<Creation, Error> {
        let user = Stored {
            key: username.key(),
            username: username.to_string(),
            hash: hash.to_owned(),
            created: DateTime::now(),
        };
        match timeout(DEADLINE, self.users.insert_one(user)).await.map_err(unavailable)? {
            Ok(_) => Ok(Creation::Created),
            Err(error) if is_duplicate(&error) => Ok(Creation::Exists),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn find(&self, key: &str) -> Result<Option<User>, Error> {
        // A string is compared as a string: what it holds cannot become an operator.
        let found = timeout(DEADLINE, self.users.find_one(doc! { "_id": key }).into_future()).await;
        let Some(stored) = found.map_err(unavailable)?.map_err(unavailable)? else { return Ok(None) };
        let username = stored.username.parse().map_err(|_| Error::Damaged("username"))?;
        Ok(Some(User { username, hash: stored.hash }))
    }

    async fn is_empty(&self) -> Result<bool, Error> {
        let any = timeout(DEADLINE, self.users.find_one(doc! {}).into_future()).await;
        Ok(any.map_err(unavailable)?.map_err(unavailable)?.is_none())
    }
}

fn is_duplicate(error: &MongoError) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY)
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable(Box::new(error))
}
