//! [`Lineage`] in MongoDB, collection `lineage`: one document. It holds the id of the history and the UUID that MongoDB has given to
//! the collection of messages. `mongorestore` creates collections anew, so a UUID that differs means that a backup was restored.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::{
    Collection, Database,
    bson::{Bson, Document, doc},
    error::Error as MongoError,
    options::ReturnDocument,
};
use remote::mongo::Store;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Lineage;
use crate::{
    Error,
    history::mongo::COLLECTION as MESSAGES,
    id::new_id,
    mongo::{DEADLINE, collection, deadline_now, with_deadline},
    redis::EPOCH_LENGTH,
};

/// The collection.
const COLLECTION: &str = "lineage";

/// The document.
const ID: &str = "messages";

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoLineage {
    database: Database,
    rows: Collection<Row>,
    /// The name of the collection of messages.
    messages: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// The id of the history.
    history: String,
    /// The UUID of the collection of messages. Absent when it was not known.
    #[serde(default)]
    uuid: Option<String>,
}

impl MongoLineage {
    /// In `store`, which need not be there yet.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        let messages = store.deployment.collection(MESSAGES);
        Self { database: store.database.clone(), rows: collection(store, COLLECTION), messages }
    }

    /// The UUID of the collection of messages; none when there is no such collection, or MongoDB does not show it.
    async fn uuid(&self) -> Option<String> {
        let listed = async {
            let list = self.database.list_collections().filter(doc! { "name": &self.messages });
            list.await?.try_next().await
        };
        let found = with_deadline::<_, MongoError>(deadline_now(), listed).await;
        let uuid = found.ok()??.info.uuid?;
        Some(uuid.bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    async fn row(&self, deadline_now: Instant) -> Result<Option<Row>, Error> {
        with_deadline(deadline_now, self.rows.find_one(doc! { "_id": ID }).max_time(DEADLINE)).await
    }

    /// Changes the document if it fits `filter`, and answers with what it is then.
    async fn change(&self, filter: Document, change: Document, deadline_now: Instant) -> Result<Row, Error> {
        let write = self.rows.find_one_and_update(filter, change).max_time(DEADLINE);
        let changed = with_deadline(deadline_now, write.return_document(ReturnDocument::After)).await?;
        match changed {
            Some(row) => Ok(row),
            // Another process has changed it.
            None => {
                self.row(deadline_now).await?.ok_or_else(|| Error::Store("the history has no id".to_owned()))
            }
        }
    }

    async fn begin(&self, uuid: Option<&str>, deadline_now: Instant) -> Result<Row, Error> {
        let new = doc! { "$setOnInsert": { "history": fresh()?, "uuid": uuid } };
        let write = self.rows.find_one_and_update(doc! { "_id": ID }, new).upsert(true).max_time(DEADLINE);
        let begun = with_deadline(deadline_now, write.return_document(ReturnDocument::After)).await?;
        begun.ok_or_else(|| Error::Store("the history has no id".to_owned()))
    }
}

#[async_trait]
impl Lineage for MongoLineage {
    async fn current(&self) -> Result<String, Error> {
        let deadline_now = deadline_now();
        let uuid = self.uuid().await;
        let row = match self.row(deadline_now).await? {
            Some(row) => row,
            None => self.begin(uuid.as_deref(), deadline_now).await?,
        };
        let row = match (&row.uuid, uuid) {
            (Some(known), Some(uuid)) if *known != uuid => {
                tracing::error!("the messages were restored from a backup: clients reload");
                let restored = doc! { "$set": { "history": fresh()?, "uuid": uuid } };
                self.change(doc! { "_id": ID, "uuid": known }, restored, deadline_now).await?
            }
            (None, Some(uuid)) => {
                let noted = doc! { "$set": { "uuid": uuid } };
                match self.change(doc! { "_id": ID, "uuid": Bson::Null }, noted, deadline_now).await {
                    Ok(row) => row,
                    // It is tried again with the next look.
                    Err(error) => {
                        tracing::debug!(%error, "the collection of messages is not noted");
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
        let next = doc! { "$set": { "history": fresh()?, "ended": epoch } };
        let row = self.change(doc! { "_id": ID, "ended": { "$ne": epoch } }, next, deadline_now()).await?;
        Ok(row.history)
    }
}

fn fresh() -> Result<String, Error> {
    Ok(new_id()?[..EPOCH_LENGTH].to_owned())
}

#[cfg(test)]
mod tests {
    use mongodb::Client;
    use testkit::Mongo;

    use super::*;
    use crate::MongoStore;

    #[actix_rt::test]
    async fn a_history_ends_once_for_an_epoch_and_when_the_messages_are_created_anew() {
        let mongo = Mongo::start().await;
        let database = Client::with_uri_str(mongo.uri()).await.unwrap().default_database().unwrap();
        let (here, there) = (MongoLineage::new(&database), MongoLineage::new(&database));
        let first = here.current().await.unwrap();
        assert_eq!(first.len(), EPOCH_LENGTH);
        MongoStore::new(&database).prepare().await.unwrap();
        for lineage in [&here, &there, &here] {
            assert_eq!(
                lineage.current().await.unwrap(),
                first,
                "messages were created, and nothing was restored"
            );
        }
        let second = there.end("e1").await.unwrap();
        assert_ne!(second, first);
        assert_eq!(
            (here.end("e1").await.unwrap(), here.current().await.unwrap()),
            (second.clone(), second.clone())
        );
        let third = here.end("e2").await.unwrap();
        assert!(third != second && third != first);
        // What mongorestore does: the same documents in other collections.
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
        assert!(![&first, &second, &third].contains(&&fourth), "it was restored");
        assert_eq!(here.current().await.unwrap(), fourth);
        // A backup that has no id yet.
        database.collection::<Document>(COLLECTION).drop().await.unwrap();
        let fifth = here.current().await.unwrap();
        assert_eq!((fifth != fourth, there.current().await.unwrap()), (true, fifth));
    }
}
