//! Trial writes of one operation, in a transaction that is aborted, so that no reader gets the document.

use mongodb::{
    Collection,
    bson::{Document, doc},
    error::Error as MongoError,
};

use super::duplicates::OwnIndexes;

/// A kind of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Inserts documents.
    Insert,
    /// Updates or upserts a document.
    Update,
    /// Deletes documents.
    Delete,
    /// Creates indexes.
    Index,
}

impl Operation {
    /// The operation, as a phrase before the name of the collection.
    pub(super) fn phrase(self) -> &'static str {
        match self {
            Self::Insert => "insert into",
            Self::Update => "update of",
            Self::Delete => "delete from",
            Self::Index => "createIndexes of",
        }
    }
}

/// What trial writes to a collection need.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub documents: Collection<Document>,
    pub document: fn() -> Document,
    pub own: OwnIndexes,
}

/// Writes the trial document in a transaction that is aborted, so that no reader gets it.
pub(super) async fn attempt(trial: &Trial, operation: Operation) -> Result<(), MongoError> {
    let documents = &trial.documents;
    let mut session = documents.client().start_session().await?;
    session.start_transaction().await?;
    let document = (trial.document)();
    let id = doc! { "_id": document.get("_id").cloned() };
    let tried = async {
        documents.insert_one(document.clone()).session(&mut session).await?;
        match operation {
            Operation::Update => {
                let mut set = document;
                set.remove("_id");
                documents.update_one(id, doc! { "$set": set }).session(&mut session).await.map(drop)
            }
            Operation::Delete => documents.delete_one(id).session(&mut session).await.map(drop),
            Operation::Insert | Operation::Index => Ok(()),
        }
    };
    let tried = tried.await;
    // The server aborts a transaction whose client is gone.
    let _ = session.abort_transaction().await;
    tried
}
