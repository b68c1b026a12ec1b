//! The chat's SQLite file. The binary opens the file once and passes its parts to [`crate::start`].

mod missing_users;
mod schema;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use embedded::{Database, Options};

pub use self::missing_users::{Comparison, compare};
pub use self::schema::{CHECKS, CHECKS_WITH_USERS, MIGRATIONS};
use self::schema::{RENEWAL, REPAIR};

use crate::{
    Error,
    directory::{Directory, sqlite::SqliteDirectory},
    history::{History, Journal, sqlite::SqliteHistory},
    recovery_sessions::{RecoverySessions, sqlite::SqliteRecoverySessions},
    rows::IS_CUT,
};

/// The schema version of this release: the number of migrations.
pub const SCHEMA: usize = MIGRATIONS.len();

/// The open file. Cheap to clone.
#[derive(Clone)]
pub struct SqliteStore {
    database: Database,
}

impl SqliteStore {
    /// Opens or creates the file at `path`.
    ///
    /// # Errors
    /// [`Error::Store`] when another process has opened it, it has a newer schema, or the disk fails. The text contains the path.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, false)
    }

    /// Opens or creates the file at `path`. With `accept_loss` also a file that has lost committed data is opened and repaired, and its
    /// log begins a new epoch.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_with(path: &Path, accept_loss: bool) -> Result<Self, Error> {
        let options = Options {
            renewal: RENEWAL,
            renew_if: IS_CUT,
            repair: REPAIR,
            accept_loss,
            ..Options::new(MIGRATIONS)
        };
        Ok(Self { database: Database::open(path, options)? })
    }

    /// Opens a copy of a file. Its log begins a new epoch.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_copy(path: &Path) -> Result<Self, Error> {
        let options = Options { renewal: RENEWAL, renew: true, ..Options::new(MIGRATIONS) };
        Ok(Self { database: Database::open(path, options)? })
    }

    /// The store of messages.
    pub fn history(&self) -> Arc<dyn History> {
        Arc::new(self.messages())
    }

    /// The messages in the order of the log.
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::new(self.messages())
    }

    pub(crate) fn messages(&self) -> SqliteHistory {
        SqliteHistory::new(self.database.clone())
    }

    /// The store of recovery sessions.
    pub fn recovery_sessions(&self) -> Arc<dyn RecoverySessions> {
        Arc::new(SqliteRecoverySessions::new(self.database.clone()))
    }

    /// The store of rooms and memberships.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(SqliteDirectory::new(self.database.clone()))
    }

    /// The reason why the store does not work, see [`embedded::Database::not_ready_reason`]. For `/readyz`.
    pub async fn not_ready_reason(&self) -> Option<String> {
        self.database.not_ready_reason().await
    }

    /// The open file, to close it or to take snapshots of several files together.
    pub fn database(&self) -> &Database {
        &self.database
    }
}
