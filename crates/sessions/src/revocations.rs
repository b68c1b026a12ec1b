//! Which sessions were closed, kept where a crash of Redis takes nothing back. Told by [`RedisSessions`](crate::RedisSessions) at
//! every closing before it is answered, and asked when Redis was started again.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use mongodb::{
    Collection, IndexModel,
    bson::{DateTime, doc},
    options::{IndexOptions, ReturnDocument},
};
use remote::mongo::{Prepared, Store, Unanswered, answered, collection};
use serde::{Deserialize, Serialize};

use crate::{Error, LIFETIME_SECONDS, SessionId};

/// The collection.
const COLLECTION: &str = "closed_sessions";

/// The collection of one document that counts.
const COUNTER: &str = "closed_sessions_told";

/// How many sessions one part of the list names.
const PART: usize = 500;

/// A durable list of closed sessions.
#[async_trait]
pub trait Revocations: Send + Sync + 'static {
    /// Keeps these until they would have ended by themselves. Durable when it answers; those that are kept already stay.
    async fn add(&self, sessions: &[SessionId]) -> Result<(), Error>;

    /// A number larger than every one that it has answered before, to anybody, and larger than `seen`: the list may have been
    /// restored from a backup, and with it an earlier number.
    async fn generation(&self, seen: u64) -> Result<u64, Error>;

    /// All that are kept, in parts.
    async fn parts(&self) -> Result<BoxStream<'_, Result<Vec<SessionId>, Error>>, Error>;
}

/// The list in MongoDB: a document for each session, which MongoDB itself removes when it is over.
#[derive(Debug, Clone)]
pub struct MongoRevocations {
    closed: Collection<Kept>,
    counter: Collection<Count>,
    /// The index by which the documents end.
    prepared: Prepared,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "_id")]
    session: String,
    /// When it would have ended by itself, or later.
    ends: DateTime,
}

/// How often a Redis was told.
#[derive(Debug, Serialize, Deserialize)]
struct Count {
    generation: i64,
}

impl MongoRevocations {
    /// The list in `store`, which need not be there yet. It is written to a majority's disks, and read from what a majority has.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        Self {
            closed: collection(&store, COLLECTION),
            counter: collection(&store, COUNTER),
            prepared: Prepared::default(),
        }
    }

    async fn prepare(&self) -> Result<(), Error> {
        let ends = IndexOptions::builder().expire_after(Duration::ZERO).build();
        let index = IndexModel::builder().keys(doc! { "ends": 1 }).options(ends).build();
        let create = async { Ok::<_, Error>(answered(self.closed.create_index(index)).await.map(drop)?) };
        self.prepared.ensure(create).await
    }
}

#[async_trait]
impl Revocations for MongoRevocations {
    async fn add(&self, sessions: &[SessionId]) -> Result<(), Error> {
        self.prepare().await?;
        let ends = DateTime::now().timestamp_millis() + LIFETIME_SECONDS as i64 * 1_000;
        let set = doc! { "$set": { "ends": DateTime::from_millis(ends) } };
        for session in sessions {
            let update = self.closed.update_one(doc! { "_id": session.as_str() }, set.clone());
            answered(update.upsert(true)).await?;
        }
        Ok(())
    }

    async fn generation(&self, seen: u64) -> Result<u64, Error> {
        let seen = i64::try_from(seen).unwrap_or_default();
        let last = doc! { "$max": [{ "$ifNull": ["$generation", 0_i64] }, seen] };
        let next = doc! { "$set": { "generation": { "$add": [last, 1_i64] } } };
        let count = self.counter.find_one_and_update(doc! { "_id": 1 }, vec![next]);
        let count = count.upsert(true).return_document(ReturnDocument::After);
        let count = answered(count).await?;
        Ok(count.and_then(|count| u64::try_from(count.generation).ok()).unwrap_or_default())
    }

    async fn parts(&self) -> Result<BoxStream<'_, Result<Vec<SessionId>, Error>>, Error> {
        let cursor = answered(self.closed.find(doc! {})).await?;
        let parts = cursor.try_chunks(PART).map(|part| {
            let part = part.map_err(|failed| Unanswered::from(failed.1))?;
            Ok(part.iter().filter_map(|kept| kept.session.parse().ok()).collect())
        });
        Ok(parts.boxed())
    }
}

impl From<Unanswered> for Error {
    fn from(error: Unanswered) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
