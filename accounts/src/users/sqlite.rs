//! The SQLite backend of [`Users`], for `serve`.

use std::path::Path;

use async_trait::async_trait;
use embedded::{Database, Options};
use proto::{Timestamp, Username};
use rusqlite::{OptionalExtension, params};

use super::{Creation, User, Users};
use crate::Error;

/// `created_at` is in milliseconds since the epoch.
const SCHEMA: &str = "
    CREATE TABLE users(
        key TEXT PRIMARY KEY,
        username TEXT NOT NULL,
        hash TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Users in one SQLite file.
pub struct SqliteUsers {
    db: Database,
}

impl SqliteUsers {
    /// Opens the file. Blocks.
    pub fn open(path: &Path) -> Result<Self, embedded::Error> {
        Ok(Self { db: Database::open(path, Options::new(SCHEMA))? })
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
        let sql = "INSERT INTO users(key, username, hash, created_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
        let row = move |conn: &rusqlite::Connection| {
            conn.prepare_cached(sql)?.execute(params![username.key(), username.as_str(), hash, now])
        };
        Ok(if self.db.write(row).await? == 1 { Creation::Created } else { Creation::Exists })
    }

    async fn find(&self, key: &str) -> Result<Option<User>, Error> {
        let key = key.to_owned();
        let sql = "SELECT username, hash FROM users WHERE key = ?1";
        let row = move |conn: &rusqlite::Connection| {
            let found = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
            conn.prepare_cached(sql)?.query_row([&key], found).optional()
        };
        let Some((username, hash)) = self.db.read(row).await? else { return Ok(None) };
        let username = username.parse().map_err(|_| Error::Internal("a stored username is not valid"))?;
        Ok(Some(User { username, hash }))
    }

    async fn renew(&self, key: &str, old: &str, new: &str) -> Result<(), Error> {
        let (key, old, new) = (key.to_owned(), old.to_owned(), new.to_owned());
        let sql = "UPDATE users SET hash = ?3 WHERE key = ?1 AND hash = ?2";
        let row =
            move |conn: &rusqlite::Connection| conn.prepare_cached(sql)?.execute(params![key, old, new]);
        self.db.write(row).await?;
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
