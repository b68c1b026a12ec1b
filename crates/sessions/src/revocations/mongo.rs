//! The list of revoked sessions in MongoDB.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use mongodb::{
    IndexModel,
    bson::{DateTime, Document, doc, oid::ObjectId},
    options::{IndexOptions, ReturnDocument},
};
use remote::mongo::{Documents, Operation, Prepared, Store, Unanswered, answered, collection, trial_of};
use serde::{Deserialize, Serialize};

use super::Revocations;
use crate::{Error, LIFETIME_SECONDS, SessionId};

/// The name of the collection.
const COLLECTION: &str = "closed_sessions";

/// The name of the collection of the generation counter, which is one document.
const COUNTER: &str = "closed_sessions_told";

/// The maximum number of sessions in one part of the list.
const PART: usize = 500;

/// The list in MongoDB: one document per session, which a TTL index removes after the expiry of the session.
#[derive(Debug, Clone)]
pub struct MongoRevocations {
    revoked: Documents<RevokedSession>,
    counter: Documents<Counter>,
    /// The check of the TTL index.
    prepared: Prepared,
}

#[derive(Debug, Serialize, Deserialize)]
struct RevokedSession {
    #[serde(rename = "_id")]
    session: String,
    /// A time not before the expiry of the session.
    ends: DateTime,
}

/// The generation counter.
#[derive(Debug, Serialize, Deserialize)]
struct Counter {
    generation: i64,
}

impl MongoRevocations {
    /// The list in `store`, which need not be reachable yet. Writes are acknowledged by a majority, and reads use read concern
    /// "majority".
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        Self {
            revoked: collection(&store, COLLECTION).with_trial(trial),
            counter: collection(&store, COUNTER).with_trial(trial_counter),
            prepared: Prepared::default(),
        }
    }

    async fn prepare(&self) -> Result<(), Error> {
        let ttl = IndexOptions::builder().expire_after(Duration::ZERO).build();
        let index = IndexModel::builder().keys(doc! { "ends": 1 }).options(ttl).build();
        let create =
            self.revoked.write(Operation::Index, async |revoked| revoked.create_index(index).await.map(drop));
        self.prepared.ensure(async { Ok::<_, Error>(answered(create).await?) }).await
    }
}

#[async_trait]
impl Revocations for MongoRevocations {
    async fn add(&self, sessions: &[SessionId]) -> Result<(), Error> {
        self.prepare().await?;
        let ends = DateTime::now().timestamp_millis() + LIFETIME_SECONDS as i64 * 1_000;
        let set = doc! { "$set": { "ends": DateTime::from_millis(ends) } };
        for session in sessions {
            let revoked = doc! { "_id": session.as_str() };
            let update = self.revoked.write(Operation::Update, async |sessions| {
                sessions.update_one(revoked, set.clone()).upsert(true).await
            });
            answered(update).await?;
        }
        Ok(())
    }

    async fn generation(&self, seen: u64) -> Result<u64, Error> {
        let seen = i64::try_from(seen).unwrap_or_default();
        let last = doc! { "$max": [{ "$ifNull": ["$generation", 0_i64] }, seen] };
        let next = doc! { "$set": { "generation": { "$add": [last, 1_i64] } } };
        let update = self.counter.write(Operation::Update, async |counter| {
            let update = counter.find_one_and_update(doc! { "_id": 1 }, vec![next]);
            update.upsert(true).return_document(ReturnDocument::After).await
        });
        let counter = answered(update).await?;
        Ok(counter.and_then(|counter| u64::try_from(counter.generation).ok()).unwrap_or_default())
    }

    async fn parts(&self) -> Result<BoxStream<'_, Result<Vec<SessionId>, Error>>, Error> {
        let cursor = answered(self.revoked.find(doc! {})).await?;
        let parts = cursor.try_chunks(PART).map(|part| {
            let part = part.map_err(|failed| Unanswered::from(failed.1))?;
            Ok(part.iter().filter_map(|revoked| revoked.session.parse().ok()).collect())
        });
        Ok(parts.boxed())
    }
}

/// The document of a trial write to the list. Its id is not a valid id of a session.
fn trial() -> Document {
    trial_of(RevokedSession { session: format!("trial {}", ObjectId::new()), ends: DateTime::now() })
}

/// The document of a trial write to the counter.
fn trial_counter() -> Document {
    let mut counter = trial_of(Counter { generation: 1 });
    counter.insert("_id", ObjectId::new());
    counter
}

impl From<Unanswered> for Error {
    fn from(error: Unanswered) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
