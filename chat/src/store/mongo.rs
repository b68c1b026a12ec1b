//! The chat's part of a MongoDB database, for a chat in several processes. The binary connects and hands its parts to
//! [`crate::start`]. Tickets and the order of all messages are kept elsewhere.

use std::sync::Arc;

use mongodb::Database;

use crate::{
    Error,
    directory::{Directory, mongo::MongoDirectory},
    history::{History, mongo::MongoHistory},
};

/// The collections `messages` and `rooms`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoStore {
    history: MongoHistory,
    directory: MongoDirectory,
}

impl MongoStore {
    /// In `database`, which need not be there yet.
    pub fn new(database: &Database) -> Self {
        Self { history: MongoHistory::new(database), directory: MongoDirectory::new(database) }
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

    /// Whether MongoDB answers and messages can be kept in order there. For `/readyz`.
    pub async fn is_ready(&self) -> bool {
        self.history.is_ready().await
    }
}
