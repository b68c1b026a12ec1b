//! [`Lineage`] in MongoDB, collection `lineage`: one document with the id of the history and the UUID that MongoDB has assigned to the
//! collection of messages. `mongorestore` creates collections again, so another UUID means that a backup was restored.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::{
    Database,
    bson::{Bson, Document, doc, oid::ObjectId},
    error::Error as MongoError,
    options::ReturnDocument,
};
use remote::mongo::{Documents, Operation, Store, trial_of};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Lineage;
use crate::{
    Error,
    id::new_id,
    mongo::{DEADLINE, MESSAGES, collection, deadline_now, with_deadline},
    redis::EPOCH_LENGTH,
};

/// The collection.
const COLLECTION: &str = "lineage";

/// The `_id` of the document.
const ID: &str = "messages";

/// The lineage in one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoLineage {
    database: Database,
    rows: Documents<Row>,
    /// The name of the collection of messages.
    messages: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// The id of the history.
    history: String,
    /// The UUID of the collection of messages. Absent when it was unknown.
    #[serde(default)]
    uuid: Option<String>,
}

impl MongoLineage {
    /// The lineage in `store`, which may be unavailable.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        let messages = store.deployment.collection(MESSAGES);
        Self {
            database: store.database.clone(),
            rows: collection(store, COLLECTION).with_trial(trial),
            messages,
        }
    }

    /// The UUID of the collection of messages. `None` when the collection does not exist, or MongoDB does not return it.
    async fn uuid(&self) -> Option<String> {
        let listed = async {
            let list = self.database.list_collections().filter(doc! { "name": &self.messages });
            list.await?.try_next().await
        };
        let found = with_deadline::<_, MongoError>(deadline_now(), listed).await;
        let uuid = found.ok()??.info.uuid?;
        Some(uuid.bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    async fn row(&self, deadline: Instant) -> Result<Option<Row>, Error> {
        with_deadline(deadline, self.rows.find_one(doc! { "_id": ID }).max_time(DEADLINE)).await
    }

    /// Changes the document if it matches `filter`. Returns the current document.
    async fn change(&self, filter: Document, change: Document, deadline: Instant) -> Result<Row, Error> {
        let write = self.rows.write(Operation::Update, async |rows| {
            let write = rows.find_one_and_update(filter, change).max_time(DEADLINE);
            write.return_document(ReturnDocument::After).await
        });
        let changed = with_deadline(deadline, write).await?;
        match changed {
            Some(row) => Ok(row),
            // Another process has changed the document.
            None => self.row(deadline).await?.ok_or_else(|| Error::Store("the history has no id".to_owned())),
        }
    }

    /// Creates the document if it does not exist. Returns the current document.
    async fn begin(&self, uuid: Option<&str>, deadline: Instant) -> Result<Row, Error> {
        let new = doc! { "$setOnInsert": { "history": new_history()?, "uuid": uuid } };
        let write = self.rows.write(Operation::Update, async |rows| {
            let write = rows.find_one_and_update(doc! { "_id": ID }, new).upsert(true).max_time(DEADLINE);
            write.return_document(ReturnDocument::After).await
        });
        let begun = with_deadline(deadline, write).await?;
        begun.ok_or_else(|| Error::Store("the history has no id".to_owned()))
    }
}

#[async_trait]
impl Lineage for MongoLineage {
    async fn current(&self) -> Result<String, Error> {
        let deadline = deadline_now();
        let uuid = self.uuid().await;
        let row = match self.row(deadline).await? {
            Some(row) => row,
            None => self.begin(uuid.as_deref(), deadline).await?,
        };
        let row = match (&row.uuid, uuid) {
            (Some(stored), Some(uuid)) if *stored != uuid => {
                tracing::error!(
                    "the messages were restored from a backup: a new history begins, clients reload"
                );
                let restored = doc! { "$set": { "history": new_history()?, "uuid": uuid } };
                self.change(doc! { "_id": ID, "uuid": stored }, restored, deadline).await?
            }
            (None, Some(uuid)) => {
                let noted = doc! { "$set": { "uuid": uuid } };
                match self.change(doc! { "_id": ID, "uuid": Bson::Null }, noted, deadline).await {
                    Ok(row) => row,
                    // The next call retries.
                    Err(error) => {
                        tracing::debug!(%error, "the UUID of the collection of messages cannot be stored; retrying");
                        row
                    }
                }
            }
            _ => row,
        };
        Ok(row.history)
    }

    async fn end(&self, epoch: &str) -> Result<String, Error> {
        self.current().await?;
        let next = doc! { "$set": { "history": new_history()?, "ended": epoch } };
        let row = self.change(doc! { "_id": ID, "ended": { "$ne": epoch } }, next, deadline_now()).await?;
        Ok(row.history)
    }
}

/// The document of a trial write.
fn trial() -> Document {
    let mut row = trial_of(Row { history: "trial".to_owned(), uuid: None });
    row.insert("_id", format!("trial {}", ObjectId::new()));
    row
}

/// The id of a new history.
fn new_history() -> Result<String, Error> {
    Ok(new_id()?[..EPOCH_LENGTH].to_owned())
}

#[cfg(test)]
mod tests {
    use mongodb::Client;
    use testkit::Mongo;

    use super::*;
    use crate::MongoStore;

    #[actix_rt::test]
    async fn a_history_ends_once_per_epoch_and_when_the_messages_are_restored() {
        let mongo = Mongo::start().await;
        let database = Client::with_uri_str(mongo.uri()).await.unwrap().default_database().unwrap();
        let (here, there) = (MongoLineage::new(&database), MongoLineage::new(&database));
        let first = here.current().await.unwrap();
        assert_eq!(first.len(), EPOCH_LENGTH);
        MongoStore::new(&database).prepare().await.unwrap();
        for lineage in [&here, &there, &here] {
            assert_eq!(lineage.current().await.unwrap(), first, "the collection was created, not restored");
        }
        let second = there.end("e1").await.unwrap();
        assert_ne!(second, first);
        assert_eq!(
            (here.end("e1").await.unwrap(), here.current().await.unwrap()),
            (second.clone(), second.clone())
        );
        let third = here.end("e2").await.unwrap();
        assert!(third != second && third != first);
        // As mongorestore does: the same documents in new collections.
        for name in [MESSAGES, COLLECTION] {
            let old = database.collection::<Document>(name);
            let documents: Vec<Document> = old.find(doc! {}).await.unwrap().try_collect().await.unwrap();
            old.drop().await.unwrap();
            database.create_collection(name).await.unwrap();
            if !documents.is_empty() {
                old.insert_many(documents).await.unwrap();
            }
        }
        let fourth = there.current().await.unwrap();
        assert!(![&first, &second, &third].contains(&&fourth), "the backup was detected");
        assert_eq!(here.current().await.unwrap(), fourth);
        // A backup without the document.
        database.collection::<Document>(COLLECTION).drop().await.unwrap();
        let fifth = here.current().await.unwrap();
        assert_eq!((fifth != fourth, there.current().await.unwrap()), (true, fifth));
    }
}
