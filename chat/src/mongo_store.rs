//! The chat's collections in MongoDB, for a chat in several processes. The binary connects and passes their parts to [`crate::start`].
//! Recovery sessions and the order of the messages of all rooms are stored in Redis.

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

/// Reason when messages violate the unique indexes.
const FORKED: &str =
    "holds two messages in one place of a room: see the log of a chat node, and restore a backup";

/// Reason when the indexes cannot be read or created.
const UNPREPARED: &str = "does not let the indexes of messages and rooms be read or created";

/// The collections `messages`, `rooms`, `untold` and `lineage`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoStore {
    history: MongoHistory,
    directory: MongoDirectory,
    unpublished: MongoUnpublished,
    lineage: MongoLineage,
    writes: Writes,
}

impl MongoStore {
    /// The collections of `store`. MongoDB need not be reachable yet.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        Self {
            history: MongoHistory::new(&store),
            lineage: MongoLineage::new(&store),
            directory: MongoDirectory::new(&store),
            unpublished: MongoUnpublished::new(&store),
            writes: Writes::new(&store),
        }
    }

    /// Creates the missing indexes. Writes that require them create them as well; this reports an error at start, and allows enough time
    /// for a large collection.
    ///
    /// # Errors
    /// [`Error::Store`] when MongoDB does not answer, or when stored documents violate a unique index. The text contains the collection.
    pub async fn prepare(&self) -> Result<(), Error> {
        self.history.prepare().await?;
        self.directory.prepare().await
    }

    /// The store of messages.
    pub fn history(&self) -> Arc<dyn History> {
        Arc::new(self.history.clone())
    }

    /// The store of rooms and memberships.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(self.directory.clone())
    }

    /// The latest changes of rooms.
    pub fn changes(&self) -> Arc<dyn Changes> {
        Arc::new(self.directory.clone())
    }

    /// The rooms with messages that are not in the log yet.
    pub fn unpublished(&self) -> Arc<dyn Unpublished> {
        Arc::new(self.unpublished.clone())
    }

    /// The lineage of the stored messages.
    pub fn lineage(&self) -> Arc<dyn Lineage> {
        Arc::new(self.lineage.clone())
    }

    /// Whether MongoDB answers, accepts writes and has the indexes. For `/readyz`.
    pub async fn is_ready(&self) -> bool {
        self.not_ready_reason().await.is_none()
    }

    /// The reason why messages cannot be stored in MongoDB, as a text that follows its name. `None` when they can. Creates missing indexes.
    pub async fn not_ready_reason(&self) -> Option<String> {
        match self.history.check().await {
            Err(Error::Store(why)) if why.contains(TWICE) => Some(FORKED.to_owned()),
            Err(error) => Some(format!("{UNPREPARED}: {error}")),
            Ok(()) => self.writes.not_ready_reason().await,
        }
    }

    /// Why the chat works only in part: rooms are lost, or optional writes are refused. A text that follows "MongoDB". For `/readyz`.
    pub async fn degradation(&self) -> Option<String> {
        if let Some(lost) = self.lineage.degradation() {
            return Some(lost);
        }
        self.writes.degradation().await
    }

    /// The reason why messages cannot be acked while the stream refuses them, as a text that follows "MongoDB". `None` when the last note of
    /// unpublished messages was written.
    pub fn unpublished_not_ready_reason(&self) -> Option<String> {
        self.unpublished.not_ready_reason()
    }
}
