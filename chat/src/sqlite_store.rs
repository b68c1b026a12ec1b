//! The chat's SQLite file. The binary opens the file once and passes its parts to [`crate::start`].

mod schema;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use embedded::{Database, Options};
use proto::signature::Key;
use rusqlite::{Connection, OpenFlags};

use self::schema::SCHEMA;
use crate::{
    Error,
    directory::{Directory, sqlite::SqliteDirectory},
    history::{History, Journal, sqlite::SqliteHistory},
};

/// The open file. Cheap to clone.
#[derive(Clone)]
pub struct SqliteStore {
    database: Database,
    secret: Key,
}

impl SqliteStore {
    /// Opens or creates the file at `path`.
    ///
    /// # Errors
    /// When it has another schema, or the disk fails. The text contains the path.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let database = Database::open(path, Options::new(SCHEMA))?;
        Ok(Self { database, secret: secret(path)? })
    }

    /// Begins a new epoch of the log and closes the file. For a copy, whose later offsets are not those of the original: no client
    /// recovers from an earlier epoch. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin_epoch(self) -> Result<(), Error> {
        let begin = |conn: &Connection| {
            conn.execute_batch("UPDATE meta SET value = lower(hex(randomblob(8))) WHERE key = 'epoch';")
        };
        Ok(self.database.write_blocking(begin)?)
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

    /// The secret of the file, made at its creation: the key of recovery tickets.
    pub fn secret(&self) -> Key {
        self.secret.clone()
    }

    /// The store of rooms and memberships.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(SqliteDirectory::new(self.database.clone()))
    }

    /// The open file, to check and to close it.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

/// Reads the secret of the file at `path`.
fn secret(path: &Path) -> Result<Key, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Store(format!("{}: {error}", path.display()));
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let query = "SELECT value FROM meta WHERE key = 'secret'";
    let secret = file.and_then(|file| file.query_row(query, [], |row| row.get::<_, String>(0)));
    Key::new(secret.map_err(|error| failed(&error))?.as_bytes()).map_err(|error| failed(&error))
}
