//! The chat's part of a MongoDB database, for a chat in several processes. The binary connects and hands its parts to
//! [`crate::start`]. RecoverySessions and the order of all messages are kept elsewhere.

use std::sync::Arc;

use remote::mongo::{Store, Writes};

use crate::{
    Error,
    changes::Changes,
    directory::{Directory, mongo::MongoDirectory},
    history::{History, mongo::MongoHistory},
    lineage::{Lineage, mongo::MongoLineage},
    mongo::TWICE,
    unpublished::{Unpublished, mongo::MongoUnpublished},
};

/// What is said of messages that contradict the unique indexes.
const FORKED: &str =
    "holds two messages in one place of a room: see the log of a chat node, and restore a backup";

/// What is said when the indexes cannot be seen or made.
const UNPREPARED: &str = "does not let the indexes of messages and rooms be read or created";

/// The collections `messages`, `rooms`, `unpublished` and `lineage`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoStore {
    history: MongoHistory,
    directory: MongoDirectory,
    unpublished: MongoUnpublished,
    lineage: MongoLineage,
    writes: Writes,
}

impl MongoStore {
    /// In `store`, which need not be there yet.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        Self {
            history: MongoHistory::new(&store),
            directory: MongoDirectory::new(&store),
            unpublished: MongoUnpublished::new(&store),
            lineage: MongoLineage::new(&store),
            writes: Writes::new(&store),
        }
    }

    /// Creates the indexes that are missing. What must not be without them waits for it, so this is only where an error has
    /// words, and where there is time for a large collection.
    ///
    /// # Errors
    /// [`Error::Store`] when MongoDB does not answer, or when what is there contradicts a unique index; the text says which.
    pub async fn prepare(&self) -> Result<(), Error> {
        self.history.prepare().await?;
        self.directory.prepare().await
    }

    /// What was said.
    pub fn history(&self) -> Arc<dyn History> {
        Arc::new(self.history.clone())
    }

    /// Rooms and members.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(self.directory.clone())
    }

    /// What was changed of rooms.
    pub fn changes(&self) -> Arc<dyn Changes> {
        Arc::new(self.directory.clone())
    }

    /// Which rooms the log lacks messages of.
    pub fn unpublished(&self) -> Arc<dyn Unpublished> {
        Arc::new(self.unpublished.clone())
    }

    /// Which history the messages are of.
    pub fn lineage(&self) -> Arc<dyn Lineage> {
        Arc::new(self.lineage.clone())
    }

    /// Whether MongoDB answers and messages can be kept in order there. For `/readyz`.
    pub async fn is_ready(&self) -> bool {
        self.not_ready_reason().await.is_none()
    }

    /// Why messages cannot be kept in MongoDB, if so, in words that follow its name. Missing indexes are created on the way.
    pub async fn not_ready_reason(&self) -> Option<String> {
        let checked = async {
            self.history.check().await?;
            self.directory.check_indexes().await
        };
        match checked.await {
            Err(Error::Store(why)) if why.contains(TWICE) => Some(FORKED.to_owned()),
            Err(error) => Some(format!("{UNPREPARED}: {error}")),
            Ok(()) => self.writes.not_ready_reason().await,
        }
    }
}
