//! The check that the collection of users is the one in which users were registered before. MongoDB assigns a UUID to a collection when
//! it is created, so a collection that was dropped or restored has another one. The names of lost users are free in it, and a client that
//! registers one would take over the rooms and messages of its user. So no user is registered in another collection.
//!
//! The UUID is in a document of the collection `lineage`, which also contains the UUID of that collection. When both have changed, all
//! collections were restored together, and the users are those of the rooms.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::TryStreamExt;
use mongodb::{
    Database,
    bson::{Document, doc, oid::ObjectId},
    error::ErrorKind,
};
use remote::mongo::{Documents, Operation, Store, Unanswered, answered, collection, trial_of, uuid_of};
use serde::{Deserialize, Serialize};

/// The collection of the noted UUIDs. Chat stores the id of the history there, under another `_id`.
const NOTES: &str = "lineage";

/// The `_id` of the document.
const ID: &str = "users";

/// The error code of the creation of a collection that exists.
const NAMESPACE_EXISTS: i32 = 48;

/// Compares the UUID of the collection of users with the noted one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CollectionCheck {
    database: Database,
    notes: Documents<Note>,
    /// The names of the two collections in this deployment.
    users: String,
    lineage: String,
    /// Whether the last check found another collection. It is logged when this changes.
    is_replaced: Arc<AtomicBool>,
}

/// The noted UUIDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The UUID of the collection of users.
    uuid: String,
    /// The UUID of the collection `lineage`.
    lineage: Option<String>,
}

/// Why no user may be registered.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// MongoDB does not answer, or refuses the check.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The collection was replaced. Contains a phrase that follows "MongoDB".
    #[error("MongoDB {0}")]
    Replaced(String),
}

/// What the UUIDs show.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// The collection is the noted one.
    Same,
    /// All collections were restored together.
    Restored,
    /// The collection was dropped, or restored alone.
    Replaced,
}

impl CollectionCheck {
    /// The check of the collection `users` of `store`, named without the prefix of the deployment.
    pub fn new(store: &Store, users: &str) -> Self {
        Self {
            database: store.database.clone(),
            notes: collection(store, NOTES).with_trial(trial),
            users: store.deployment.collection(users),
            lineage: store.deployment.collection(NOTES),
            is_replaced: Arc::default(),
        }
    }

    /// Checks the collection. The first call on a deployment creates and notes it.
    ///
    /// # Errors
    /// When the collection is another one, or the check is not possible. No user may then be registered.
    pub async fn run(&self) -> Result<(), Refused> {
        let Some(note) = answered(self.notes.find_one(doc! { "_id": ID })).await? else {
            return self.begin().await;
        };
        let current = self.uuid_of(&self.users).await?;
        if current.as_ref() == Some(&note.uuid) {
            self.is_replaced.store(false, Ordering::Relaxed);
            return Ok(());
        }
        let lineage = self.uuid_of(&self.lineage).await?;
        match (finding(&note, current.as_deref(), lineage.as_deref()), current) {
            (Finding::Replaced, _) | (_, None) => Err(Refused::Replaced(self.report())),
            (Finding::Same, Some(_)) => Ok(()),
            (Finding::Restored, Some(uuid)) => {
                tracing::warn!(
                    "all collections of MongoDB were restored: registration continues with the restored users"
                );
                self.is_replaced.store(false, Ordering::Relaxed);
                let (old, new) =
                    (doc! { "_id": ID, "uuid": note.uuid }, doc! { "uuid": uuid, "lineage": lineage });
                let new = doc! { "$set": new };
                let write =
                    self.notes.write(Operation::Update, async |notes| notes.update_one(old, new).await);
                answered(write).await?;
                Ok(())
            }
        }
    }

    /// The reason why no user can be registered, as a phrase that follows "MongoDB". For `/readyz`.
    pub async fn problem(&self) -> Option<String> {
        match self.run().await {
            Ok(()) => None,
            Err(Refused::Replaced(problem)) => Some(problem),
            Err(Refused::Unanswered(error)) => {
                Some(format!("does not show whether the collection {} is the same: {error}", self.users))
            }
        }
    }

    /// Creates the collection if it does not exist, and notes its UUID. Of concurrent calls the first one decides.
    async fn begin(&self) -> Result<(), Refused> {
        let mut uuid = self.uuid_of(&self.users).await?;
        if uuid.is_none() {
            match answered(self.database.create_collection(&self.users)).await {
                Err(Unanswered::Mongo(error)) if is_existing(&error) => {}
                other => other?,
            }
            uuid = self.uuid_of(&self.users).await?;
        }
        // A server without UUIDs of collections cannot be checked.
        let Some(uuid) = uuid else { return Ok(()) };
        // The first write creates this collection, and only then has it a UUID. The second one completes the document.
        let insert = doc! { "$setOnInsert": { "uuid": &uuid } };
        let write = self.notes.write(Operation::Update, async |notes| {
            notes.update_one(doc! { "_id": ID }, insert).upsert(true).await
        });
        answered(write).await?;
        let lineage = self.uuid_of(&self.lineage).await?;
        let complete = doc! { "$set": { "lineage": lineage } };
        let incomplete = doc! { "_id": ID, "lineage": { "$exists": false } };
        let write =
            self.notes.write(Operation::Update, async |notes| notes.update_one(incomplete, complete).await);
        answered(write).await?;
        Ok(())
    }

    /// The UUID of a collection in lower-case hex. `None` when the collection does not exist.
    async fn uuid_of(&self, name: &str) -> Result<Option<String>, Unanswered> {
        let list = async {
            let mut list = self.database.list_collections().filter(doc! { "name": name }).await?;
            list.try_next().await
        };
        Ok(answered(list).await?.as_ref().and_then(uuid_of))
    }

    /// The problem and its remedies. Logs it at the first call since the collection was the noted one.
    fn report(&self) -> String {
        let Self { users, lineage, .. } = self;
        let problem = format!(
            "has another collection {users} than before (it was dropped, or restored without the collection {lineage}): no user is \
             registered, because names of lost users would be given to others. Restore all collections of one backup; or confirm that \
             {users} is complete: db.{lineage}.deleteOne({{_id: \"{ID}\"}})"
        );
        if !self.is_replaced.swap(true, Ordering::Relaxed) {
            tracing::error!("registrations are refused: MongoDB {problem}");
        }
        problem
    }
}

/// The document of a trial write. No role reads its `_id`.
fn trial() -> Document {
    let mut note = trial_of(Note { uuid: "trial".to_owned(), lineage: None });
    note.insert("_id", format!("trial {}", ObjectId::new()));
    note
}

/// What the current UUIDs show, compared with the noted ones.
fn finding(note: &Note, users: Option<&str>, lineage: Option<&str>) -> Finding {
    match users {
        Some(uuid) if uuid == note.uuid => Finding::Same,
        // A note without the UUID is incomplete, so a change of it cannot be seen.
        Some(_) if note.lineage.is_some() && note.lineage.as_deref() != lineage => Finding::Restored,
        _ => Finding::Replaced,
    }
}

fn is_existing(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(failed) if failed.code == NAMESPACE_EXISTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_restore_of_both_collections_is_a_restore() {
        let note =
            |lineage: Option<&str>| Note { uuid: "u1".to_owned(), lineage: lineage.map(str::to_owned) };
        let cases = [
            (note(Some("l1")), Some("u1"), Some("l1"), Finding::Same),
            (note(Some("l1")), Some("u1"), Some("l2"), Finding::Same),
            (note(Some("l1")), Some("u2"), Some("l1"), Finding::Replaced),
            (note(Some("l1")), Some("u2"), Some("l2"), Finding::Restored),
            (note(Some("l1")), None, Some("l1"), Finding::Replaced),
            (note(Some("l1")), None, Some("l2"), Finding::Replaced),
            (note(None), Some("u2"), Some("l2"), Finding::Replaced),
        ];
        for (note, users, lineage, expected) in cases {
            assert_eq!(finding(&note, users, lineage), expected, "{note:?} {users:?} {lineage:?}");
        }
    }
}
