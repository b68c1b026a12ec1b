//! The chat's collections in MongoDB, for a chat in several processes. The binary connects and passes their parts to [`crate::start`].
//! Recovery sessions and the order of the messages of all rooms are stored in Redis.

use std::sync::Arc;

use remote::mongo::Store;

use crate::{
    Error,
    changes::Changes,
    directory::{Directory, mongo::MongoDirectory},
    history::{History, mongo::MongoHistory},
    unpublished::{Unpublished, mongo::MongoUnpublished},
};

/// The collections `messages`, `rooms` and `untold`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoStore {
    store: Store,
    history: MongoHistory,
    directory: MongoDirectory,
}

impl MongoStore {
    /// The collections of `store`. MongoDB need not be reachable yet.
    pub fn new(store: impl Into<Store>) -> Self {
        let store = store.into();
        Self { history: MongoHistory::new(&store), directory: MongoDirectory::new(&store), store }
    }

    /// Creates the missing indexes, with enough time for a large collection. Called at start.
    ///
    /// # Errors
    /// [`Error::Store`] when MongoDB does not answer, or when stored documents violate a unique index.
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
        Arc::new(MongoUnpublished::new(&self.store))
    }
}
