//! The SQLite backend of [`Users`], for `serve`.

use std::path::Path;

use async_trait::async_trait;
use embedded::{Database, Options};
use proto::{Timestamp, Username};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Creation, User, Users};
use crate::Error;

/// `created_at` is in milliseconds since the epoch.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE users(
        key TEXT PRIMARY KEY,
        username TEXT NOT NULL,
        hash TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// Users in one SQLite file.
pub struct SqliteUsers {
    db: Database,
}

impl SqliteUsers {
    /// The schema version of this release: the number of migrations.
    pub const SCHEMA: usize = MIGRATIONS.len();

    /// Opens the file. Blocks.
    pub fn open(path: &Path) -> Result<Self, embedded::Error> {
        Self::open_with(path, false)
    }

    /// Opens the file, also one that has lost committed data if that is accepted. Blocks.
    pub fn open_with(path: &Path, accept_loss: bool) -> Result<Self, embedded::Error> {
        Ok(Self { db: Database::open(path, Options { accept_loss, ..Options::new(MIGRATIONS) })? })
    }

    /// What keeps the store from working, see [`embedded::Database::not_ready_reason`]. For `/readyz`.
    pub async fn not_ready_reason(&self) -> Option<String> {
        self.db.not_ready_reason().await
    }

    /// The open database file.
    pub fn database(&self) -> &Database {
        &self.db
    }
}

#[async_trait]
impl Users for SqliteUsers {
    async fn create(&self, username: &Username, hash: &str) -> Result<Creation, Error> {
        let (username, hash) = (username.clone(), hash.to_owned());
        let now = i64::try_from(Timestamp::now().0).unwrap_or(i64::MAX);
        let sql = "INSERT INTO users(key, username, hash, created_at) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT(key) DO NOTHING";
        let insert = move |conn: &Connection| {
            conn.prepare_cached(sql)?.execute(params![username.key(), username.as_str(), hash, now])
        };
        Ok(if self.db.write(insert).await? == 1 { Creation::Created } else { Creation::Exists })
    }

    async fn find(&self, key: &str) -> Result<Option<User>, Error> {
        let key = key.to_owned();
        let select = move |conn: &Connection| {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
            conn.prepare_cached("SELECT username, hash FROM users WHERE key = ?1")?
                .query_row([&key], row)
                .optional()
        };
        let Some((username, hash)) = self.db.read(select).await? else { return Ok(None) };
        let username = username.parse().map_err(|_| Error::Internal("a stored username is not valid"))?;
        Ok(Some(User { username, hash }))
    }

    async fn renew(&self, key: &str, old: &str, new: &str) -> Result<(), Error> {
        let (key, old, new) = (key.to_owned(), old.to_owned(), new.to_owned());
        let sql = "UPDATE users SET hash = ?3 WHERE key = ?1 AND hash = ?2";
        let update = move |conn: &Connection| conn.prepare_cached(sql)?.execute(params![key, old, new]);
        self.db.write(update).await?;
        Ok(())
    }

    async fn is_empty(&self) -> Result<bool, Error> {
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM users)";
        Ok(self.db.read(move |conn| conn.query_row(sql, [], |row| row.get(0))).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tempfile::TempDir;

    use super::*;
    use crate::users::conformance;

    #[actix_rt::test]
    async fn conforms() {
        let kept = Mutex::new(Vec::new());
        let make = || {
            let directory = TempDir::new().unwrap();
            let users = SqliteUsers::open(&directory.path().join("users.sqlite3")).unwrap();
            kept.lock().unwrap().push(directory);
            async { Arc::new(users) as Arc<dyn Users> }
        };
        conformance::run(make).await.unwrap();
    }

    #[actix_rt::test]
    async fn users_survive_a_restart() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("users.sqlite3");
        let users = SqliteUsers::open(&path).unwrap();
        users.create(&"Alice".parse().unwrap(), "hash").await.unwrap();
        drop(users);
        let again = SqliteUsers::open(&path).unwrap();
        assert_eq!(again.find("alice").await.unwrap().unwrap().hash, "hash");
    }
}
