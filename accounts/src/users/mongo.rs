//! The MongoDB backend of [`Users`].

use async_trait::async_trait;
use mongodb::bson::{DateTime, Document, doc, oid::ObjectId};
use proto::Username;
use remote::mongo::{Documents, Operation, Store, Unanswered, Writes, answered, collection, trial_of};
use serde::{Deserialize, Serialize};

use super::{Creation, User, Users};
use crate::Error;

/// The collection.
const COLLECTION: &str = "users";

/// Users in one collection. The `_id` is [`Username::key`], so MongoDB enforces uniqueness.
#[derive(Debug, Clone)]
pub struct MongoUsers {
    users: Documents<Stored>,
    writes: Writes,
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
    /// Users in `store`. MongoDB does not have to be reachable yet. Writes use majority write concern with journaling, reads use majority
    /// read concern.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        Self { users: collection(&store, COLLECTION).with_trial(trial), writes: Writes::new(&store) }
    }

    /// What is wrong with MongoDB, if anything is, in words that go behind its name. For `/readyz`.
    pub async fn not_ready_reason(&self) -> Option<String> {
        match answered(self.users.find_one(doc! { "_id": "" })).await {
            Err(error) => Some(error.description_of(&format!("find in {}", self.users.name()))),
            Ok(_) => self.writes.not_ready_reason().await,
        }
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
        let insert = self.users.write(Operation::Insert, async |users| users.insert_one(user).await);
        match answered(insert).await {
            Ok(_) => Ok(Creation::Created),
            Err(Unanswered::Mongo(error)) if self.users.is_duplicate(&error) => Ok(Creation::Exists),
            Err(error) => Err(error.into()),
        }
    }

    async fn find(&self, key: &str) -> Result<Option<User>, Error> {
        // A string value is compared as a string; it cannot act as an operator.
        let Some(stored) = answered(self.users.find_one(doc! { "_id": key })).await? else {
            return Ok(None);
        };
        let username =
            stored.username.parse().map_err(|_| Error::Internal("a stored username is not valid"))?;
        Ok(Some(User { username, hash: stored.hash }))
    }

    async fn renew(&self, key: &str, old: &str, new: &str) -> Result<(), Error> {
        let (user, hash) = (doc! { "_id": key, "hash": old }, doc! { "$set": { "hash": new } });
        let update = self.users.write(Operation::Update, async |users| users.update_one(user, hash).await);
        answered(update).await?;
        Ok(())
    }

    async fn is_empty(&self) -> Result<bool, Error> {
        Ok(answered(self.users.find_one(doc! {})).await?.is_none())
    }
}

/// The document of a trial write. Its key is not the key of a valid name.
fn trial() -> Document {
    let key = format!("trial {}", ObjectId::new());
    let hash = "$2b$10$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyzABCDE".to_owned();
    trial_of(Stored { key, username: "trial".to_owned(), hash, created: DateTime::now() })
}

impl From<Unanswered> for Error {
    fn from(error: Unanswered) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
