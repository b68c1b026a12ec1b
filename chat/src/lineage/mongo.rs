//! [`Lineage`] in MongoDB, collection `lineage`: one document with the id of the history and the UUIDs that MongoDB has assigned to the
//! collections of messages, rooms and older changes. `mongorestore` creates collections again, so another UUID means that the collection
//! was dropped or restored from a backup.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::{
    Database,
    bson::{Bson, Document, doc, oid::ObjectId},
    error::Error as MongoError,
    options::ReturnDocument,
};
use remote::mongo::{Documents, Operation, Store, trial_of, uuid_of};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Lineage, lost_rooms::LostRooms};
use crate::{
    Error,
    id::new_id,
    mongo::{DEADLINE, MESSAGES, ROOMS, collection, deadline_now, with_deadline},
    redis::EPOCH_LENGTH,
};

/// The collection.
const COLLECTION: &str = "lineage";

/// The `_id` of the document.
const ID: &str = "messages";

/// Stored instead of the UUID of a collection that was dropped.
const ABSENT: &str = "absent";

/// The lineage in one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoLineage {
    database: Database,
    rows: Documents<Row>,
    lost_rooms: LostRooms,
    /// The watched collections.
    watched: [Watched; 2],
}

/// A collection whose UUID is stored.
#[derive(Debug, Clone)]
struct Watched {
    /// The name of the collection in this deployment.
    name: String,
    /// The field of [`Row`].
    field: &'static str,
    /// What the collection contains.
    what: &'static str,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// The id of the history.
    history: String,
    /// The UUIDs of collections by [`Watched::field`]. Absent when a UUID was unknown. Other fields are ignored.
    #[serde(flatten)]
    others: HashMap<String, Bson>,
}

impl Row {
    fn uuid(&self, field: &str) -> Option<&str> {
        self.others.get(field).and_then(Bson::as_str)
    }

    /// Whether the collection of rooms was dropped or restored, and rooms may have messages and no document since.
    fn may_lack_rooms(&self) -> bool {
        self.others.get(LostRooms::FIELD).and_then(Bson::as_bool) == Some(true)
    }
}

impl MongoLineage {
    /// The lineage in `store`, which may be unavailable.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        let watched = [("uuid", MESSAGES, "messages"), ("rooms", ROOMS, "rooms")];
        let watched = watched.map(|(field, name, what)| Watched {
            name: store.deployment.collection(name),
            field,
            what,
        });
        Self {
            database: store.database.clone(),
            lost_rooms: LostRooms::new(&store),
            rows: collection(store, COLLECTION).with_trial(trial),
            watched,
        }
    }

    /// The reason for which rooms cannot be used, as a text that follows "MongoDB". `None` when no room is lost. For `/readyz`.
    pub fn degradation(&self) -> Option<String> {
        self.lost_rooms.degradation()
    }

    /// The UUIDs of the watched collections by their fields. [`ABSENT`] for a collection that does not exist. Without a collection whose UUID
    /// MongoDB does not return.
    async fn uuids(&self) -> HashMap<&'static str, String> {
        let names: Vec<&str> = self.watched.iter().map(|watched| &*watched.name).collect();
        let listed = async {
            let list = self.database.list_collections().filter(doc! { "name": { "$in": names } });
            list.await?.try_collect::<Vec<_>>().await
        };
        let Ok(found) = with_deadline::<_, MongoError>(deadline_now(), listed).await else {
            return HashMap::new();
        };
        let uuids = self.watched.iter().filter_map(|watched| {
            let uuid = match found.iter().find(|found| found.name == watched.name) {
                Some(found) => uuid_of(found)?,
                None => ABSENT.to_owned(),
            };
            Some((watched.field, uuid))
        });
        uuids.collect()
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
    async fn begin(&self, uuids: &HashMap<&'static str, String>, deadline: Instant) -> Result<Row, Error> {
        let mut new = doc! { "history": new_history()? };
        let existing = uuids.iter().filter(|(_, uuid)| *uuid != ABSENT);
        new.extend(existing.map(|(field, uuid)| ((*field).to_owned(), Bson::from(uuid))));
        let write = self.rows.write(Operation::Update, async |rows| {
            let new = doc! { "$setOnInsert": new };
            let write = rows.find_one_and_update(doc! { "_id": ID }, new).upsert(true).max_time(DEADLINE);
            write.return_document(ReturnDocument::After).await
        });
        let begun = with_deadline(deadline, write).await?;
        begun.ok_or_else(|| Error::Store("the history has no id".to_owned()))
    }

    /// Compares the UUID of a collection with the stored one. Begins a new history when messages or rooms have another one; older changes
    /// that have another one are not used.
    async fn compare(
        &self,
        row: Row,
        watched: &Watched,
        uuid: &str,
        deadline: Instant,
    ) -> Result<Row, Error> {
        let Watched { field, what, .. } = watched;
        match row.uuid(field) {
            None if uuid != ABSENT => {
                let noted = self.change(
                    doc! { "_id": ID, *field: Bson::Null },
                    doc! { "$set": { *field: uuid } },
                    deadline,
                );
                // After an error the next call retries.
                Ok(noted.await.inspect_err(
                    |error| tracing::debug!(%error, what, "the UUID of a collection cannot be stored; retrying"),
                ).unwrap_or(row))
            }
            Some(stored) if stored != uuid => {
                let mut update = doc! { *field: uuid };
                tracing::error!(
                    collection = watched.name,
                    "the {what} were dropped or restored from a backup: a new history begins, clients reload"
                );
                update.insert("history", new_history()?);
                if *field == "rooms" {
                    update.insert(LostRooms::FIELD, true);
                }
                self.change(doc! { "_id": ID, *field: stored }, doc! { "$set": update }, deadline).await
            }
            _ => Ok(row),
        }
    }

    /// Searches rooms that have messages and no document, while there may be some.
    async fn check_rooms(&self, row: &Row) {
        if !row.may_lack_rooms() {
            return self.lost_rooms.clear();
        }
        if self.lost_rooms.are_all_found().await {
            let found = doc! { "$unset": { LostRooms::FIELD: "" } };
            if let Err(error) = self.change(doc! { "_id": ID }, found, deadline_now()).await {
                tracing::debug!(%error, "the state of the collection of rooms cannot be stored; retrying");
            }
        }
    }
}

#[async_trait]
impl Lineage for MongoLineage {
    async fn current(&self) -> Result<String, Error> {
        let (uuids, deadline) = (self.uuids().await, deadline_now());
        let mut row = match self.row(deadline).await? {
            Some(row) => row,
            None => self.begin(&uuids, deadline).await?,
        };
        for watched in &self.watched {
            if let Some(uuid) = uuids.get(watched.field) {
                row = self.compare(row, watched, uuid, deadline).await?;
            }
        }
        self.check_rooms(&row).await;
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
    let mut row = trial_of(Row { history: "trial".to_owned(), others: HashMap::new() });
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

    fn lineage(database: &Database) -> MongoLineage {
        MongoLineage::new(database)
    }

    /// Drops a collection and creates it again with the same documents, as mongorestore does.
    async fn recreate(database: &Database, name: &str) {
        let old = database.collection::<Document>(name);
        let documents: Vec<Document> = old.find(doc! {}).await.unwrap().try_collect().await.unwrap();
        old.drop().await.unwrap();
        database.create_collection(name).await.unwrap();
        if !documents.is_empty() {
            old.insert_many(documents).await.unwrap();
        }
    }

    #[actix_rt::test]
    async fn a_history_ends_once_per_epoch_and_when_the_messages_are_restored() {
        let mongo = Mongo::start().await;
        let database = Client::with_uri_str(mongo.uri()).await.unwrap().default_database().unwrap();
        let (here, there) = (lineage(&database), lineage(&database));
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
            recreate(&database, name).await;
        }
        let fourth = there.current().await.unwrap();
        assert!(![&first, &second, &third].contains(&&fourth), "the backup was detected");
        assert_eq!(here.current().await.unwrap(), fourth);
        // A backup without the document.
        database.collection::<Document>(COLLECTION).drop().await.unwrap();
        let fifth = here.current().await.unwrap();
        assert_eq!((fifth != fourth, there.current().await.unwrap()), (true, fifth));
    }

    /// Each collection is dropped, dropped and created again, and restored.
    #[actix_rt::test]
    async fn a_history_ends_when_rooms_are_dropped_or_restored_and_not_with_the_changes() {
        let mongo = Mongo::start().await;
        let database = Client::with_uri_str(mongo.uri()).await.unwrap().default_database().unwrap();
        MongoStore::new(&database).prepare().await.unwrap();
        let (here, there) = (lineage(&database), lineage(&database));
        let mut history = here.current().await.unwrap();
        for (name, ends) in [(ROOMS, true), (MESSAGES, true)] {
            for how in ["restored", "dropped", "created"] {
                match how {
                    "restored" => recreate(&database, name).await,
                    "dropped" => database.collection::<Document>(name).drop().await.unwrap(),
                    _ => MongoStore::new(&database).prepare().await.unwrap(),
                }
                let next = here.current().await.unwrap();
                assert_eq!(next != history, ends, "{name} {how}");
                assert_eq!(there.current().await.unwrap(), next, "{name} {how}: once");
                history = next;
            }
        }
        assert_eq!(here.degradation(), None, "no room has messages");
        let messages = database.collection::<Document>(MESSAGES);
        messages.insert_one(doc! { "room": "lobby", "seq": 1_i64 }).await.unwrap();
        messages.insert_one(doc! { "room": "tea", "seq": 1_i64 }).await.unwrap();
        recreate(&database, ROOMS).await;
        for node in [&here, &there] {
            node.current().await.unwrap();
            let why = node.degradation().expect("a room without a document");
            assert!(why.contains("rooms") && why.contains("tea") && why.contains("restore"), "{why}");
        }
        database.collection::<Document>(ROOMS).insert_one(doc! { "_id": "tea" }).await.unwrap();
        for node in [&here, &there] {
            node.current().await.unwrap();
            assert_eq!(node.degradation(), None, "all rooms have documents");
        }
    }
}
