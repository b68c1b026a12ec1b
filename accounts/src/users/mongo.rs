//! The MongoDB backend of [`Users`].

use async_trait::async_trait;
use mongodb::{
    Collection,
    bson::{DateTime, doc},
};
use proto::Username;
use remote::mongo::{Store, Unanswered, answered, is_duplicate};
use serde::{Deserialize, Serialize};

use super::{Creation, User, Users};
use crate::Error;

/// Users in one collection. The `_id` is [`Username::key`], so MongoDB enforces uniqueness.
#[derive(Debug, Clone)]
pub struct MongoUsers(Collection<Stored>);

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
        Self(store.into().collection("users"))
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
        let insert = self.0.insert_one(user);
        match answered(insert).await {
            Ok(_) => Ok(Creation::Created),
            Err(Unanswered::Mongo(error)) if is_duplicate(&error) => Ok(Creation::Exists),
            Err(error) => Err(error.into()),
        }
    }

    async fn find(&self, key: &str) -> Result<Option<User>, Error> {
        // A string value is compared as a string; it cannot act as an operator.
        let Some(stored) = answered(self.0.find_one(doc! { "_id": key })).await? else {
            return Ok(None);
        };
        let username =
            stored.username.parse().map_err(|_| Error::Internal("a stored username is not valid"))?;
        Ok(Some(User { username, hash: stored.hash }))
    }

    async fn renew(&self, key: &str, old: &str, new: &str) -> Result<(), Error> {
        let (user, hash) = (doc! { "_id": key, "hash": old }, doc! { "$set": { "hash": new } });
        let update = self.0.update_one(user, hash);
        answered(update).await?;
        Ok(())
    }

    async fn is_empty(&self) -> Result<bool, Error> {
        Ok(answered(self.0.find_one(doc! {})).await?.is_none())
    }
}

impl From<Unanswered> for Error {
    fn from(error: Unanswered) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
