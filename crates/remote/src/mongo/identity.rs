//! The identity of the database of a deployment, collection `stores`. The document `database` has an id that is created once and does not
//! change when a history is replaced. Roles claim the namespace of their deployment in Redis for this id. The document `redis` is a lease
//! on the collections, which the roles hold together for the id of their Redis.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mongodb::{
    bson::{Bson, Document, doc, oid::ObjectId},
    options::ReturnDocument,
};

use super::{Documents, Operation, Store, Unanswered, answered, collection};

/// The collection.
const COLLECTION: &str = "stores";

/// The `_id` of the document with the id of the database.
const DATABASE: &str = "database";

/// The `_id` of the document with the lease.
const REDIS: &str = "redis";

/// No lease ends later than this from now on, in milliseconds. A document with a later end was not written by a role.
const MAX_LEASE: i64 = 60_000;

/// The number of attempts to create the id while other processes create it.
const ATTEMPTS: usize = 3;

/// The identity. Writes do not depend on the gate of a role. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    documents: Documents<Document>,
    /// The name of the database. A copy of the document in a database of another name gets another id.
    name: Arc<str>,
    /// The id that was read last. It is written again when the document is lost.
    last: Arc<Mutex<Option<String>>>,
}

impl Identity {
    /// The identity of the database of `store`, which need not be reachable yet.
    pub fn new(store: &Store) -> Self {
        let name = store.database.name().into();
        Self { documents: collection(store.ungated(), COLLECTION), name, last: Arc::default() }
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the database, 24 hex digits. `None` before its creation.
    ///
    /// # Errors
    /// When MongoDB does not answer.
    pub async fn stored(&self) -> Result<Option<String>, Unanswered> {
        let found =
            answered(self.documents.find_one(doc! { "_id": DATABASE, "database": &*self.name })).await?;
        let id = found.as_ref().and_then(|found| found.get_str("id").ok()).filter(|id| is_id(id));
        Ok(id.map(str::to_owned))
    }

    /// The id of the database. Creates it when it does not exist, or when its document was copied from a database of another name.
    ///
    /// # Errors
    /// The cause, as a phrase that follows "MongoDB", when MongoDB does not answer, or refuses the creation.
    pub async fn id(&self) -> Result<String, String> {
        let failed = |operation: &str, error: &Unanswered| {
            error.description_of(&format!("{operation} {}", self.documents.name()))
        };
        for _ in 0..ATTEMPTS {
            if let Some(id) = self.stored().await.map_err(|error| failed("find in", &error))? {
                *self.last() = Some(id.clone());
                return Ok(id);
            }
            let new = self.last().clone().unwrap_or_else(|| ObjectId::new().to_hex());
            let absent = doc! { "_id": DATABASE, "$or": [
                { "database": { "$ne": &*self.name } },
                { "id": { "$not": { "$regex": "^[0-9a-f]{24}$" } } },
            ] };
            let update = doc! { "$set": { "id": new, "database": &*self.name } };
            let created = answered(self.documents.write(Operation::Update, async |documents| {
                documents.update_one(absent, update).upsert(true).await
            }));
            match created.await {
                // Another process has created it.
                Err(Unanswered::Mongo(error)) if self.documents.is_duplicate(&error) => {}
                created => _ = created.map_err(|error| failed(Operation::Update.phrase(), &error))?,
            }
        }
        Err(Unanswered::Late.description())
    }

    /// Renews the lease for the Redis `redis`, or acquires it when it is free or held for `last`, the id that the Redis of the caller had
    /// before. Returns the id of the other Redis that holds it, if one does.
    ///
    /// # Errors
    /// When MongoDB does not answer, or refuses the write.
    pub async fn hold(
        &self,
        redis: &str,
        last: Option<&str>,
        ttl: Duration,
    ) -> Result<Option<String>, Unanswered> {
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(MAX_LEASE);
        let is_live = doc! { "$and": [
            { "$not": [{ "$in": ["$id", [redis, last.unwrap_or(redis)]] }] },
            { "$gt": ["$until", "$$NOW"] },
            { "$lte": ["$until", { "$add": ["$$NOW", MAX_LEASE] }] },
        ] };
        let kept = |field: &str, new: Bson| doc! { "$cond": [&is_live, field, new] };
        let set = doc! {
            "id": kept("$id", redis.into()),
            "until": kept("$until", doc! { "$add": ["$$NOW", ttl] }.into()),
        };
        let write = self.documents.write(Operation::Update, async |documents| {
            let update = documents.find_one_and_update(doc! { "_id": REDIS }, vec![doc! { "$set": set }]);
            update.upsert(true).return_document(ReturnDocument::After).await
        });
        let held = answered(write).await?;
        Ok(held.map(|held| id_of(&held)).filter(|id| id != redis))
    }

    fn last(&self) -> MutexGuard<'_, Option<String>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_id(id: &str) -> bool {
    id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn id_of(lease: &Document) -> String {
    lease.get_str("id").unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use mongodb::{Client, Database};
    use testkit::Mongo;

    use super::*;

    async fn database(mongo: &Mongo, name: &str) -> Database {
        Client::with_uri_str(mongo.uri()).await.unwrap().database(name)
    }

    #[tokio::test]
    async fn the_id_is_created_once_per_database_and_survives_a_lost_document() {
        let mongo = Mongo::start().await;
        let one = database(&mongo, "one").await;
        let (here, there) = (Identity::new(&Store::from(&one)), Identity::new(&Store::from(&one)));
        assert_eq!(here.stored().await.unwrap(), None);
        let (first, second) = tokio::join!(here.id(), there.id());
        let id = first.unwrap();
        assert_eq!((second.unwrap(), there.stored().await.unwrap()), (id.clone(), Some(id.clone())));
        one.collection::<Document>(COLLECTION).drop().await.unwrap();
        assert_eq!(here.id().await.unwrap(), id, "written again");
        let damaged = doc! { "$set": { "id": "x" } };
        one.collection::<Document>(COLLECTION).update_one(doc! { "_id": DATABASE }, damaged).await.unwrap();
        assert_eq!(there.id().await.unwrap(), id, "repaired");

        // A copy of the collection, as mongorestore with another name makes it.
        let two = database(&mongo, "two").await;
        let copied = one.collection::<Document>(COLLECTION).find_one(doc! { "_id": DATABASE }).await.unwrap();
        two.collection::<Document>(COLLECTION).insert_one(copied.unwrap()).await.unwrap();
        let copy = Identity::new(&Store::from(&two));
        assert_ne!(copy.id().await.unwrap(), id);
        assert_eq!(Identity::new(&Store::from(&one)).id().await.unwrap(), id);
        let blue = Store::new(one, "blue".parse().unwrap());
        assert_ne!(Identity::new(&blue).id().await.unwrap(), id, "another deployment");
    }

    #[tokio::test]
    async fn one_redis_at_a_time_holds_the_lease() {
        let mongo = Mongo::start().await;
        let database = database(&mongo, "one").await;
        let identity = Identity::new(&Store::from(&database));
        let ttl = Duration::from_secs(20);
        for _ in 0..2 {
            assert_eq!(identity.hold("a", None, ttl).await.unwrap(), None);
        }
        assert_eq!(identity.hold("b", None, ttl).await.unwrap().as_deref(), Some("a"));
        assert_eq!(identity.hold("b", Some("c"), ttl).await.unwrap().as_deref(), Some("a"));
        assert_eq!(identity.hold("b", Some("a"), ttl).await.unwrap(), None, "the id of the same Redis");
        assert_eq!(identity.hold("a", None, ttl).await.unwrap().as_deref(), Some("b"));
        assert_eq!(identity.hold("a", Some("b"), ttl).await.unwrap(), None);
        for until in [0_i64, i64::MAX / 2] {
            assert_eq!(identity.hold("a", None, ttl).await.unwrap(), None);
            let expired = doc! { "$set": { "until": mongodb::bson::DateTime::from_millis(until) } };
            let stores = database.collection::<Document>(COLLECTION);
            stores.update_one(doc! { "_id": REDIS }, expired).await.unwrap();
            assert_eq!(identity.hold("b", None, ttl).await.unwrap(), None, "{until}");
            let expired = doc! { "$set": { "until": mongodb::bson::DateTime::from_millis(0) } };
            stores.update_one(doc! { "_id": REDIS }, expired).await.unwrap();
        }
    }
}
