//! The SQLite backend of [`Users`], for `serve`.

use std::{future::Future, path::Path};

use async_trait::async_trait;
use embedded::{Check, Database, Options};
use proto::{Timestamp, Username};
use rusqlite::{OptionalExtension, params};

use super::{Creation, User, Users};
use crate::Error;

/// `created_at` is in milliseconds since the epoch. `sum` is the row's checksum. `users_by_name` is a second copy of each name: a
/// user whose `key` is damaged is found by it, so that the name cannot be registered again.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE users(
        key TEXT PRIMARY KEY,
        username TEXT NOT NULL,
        hash TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "ALTER TABLE users ADD COLUMN sum INTEGER",
    "
    CREATE INDEX users_by_name ON users (username COLLATE NOCASE);
    UPDATE users SET sum = row_sum(key, username, hash, created_at) WHERE sum IS NULL;
",
];

/// Rows that are not what was written.
const BAD: &str = "sum <> row_sum(key, username, hash, created_at)";

/// Whether a user has the name, independent of its key.
const BY_NAME: &str = "SELECT 1 FROM users INDEXED BY users_by_name WHERE username = ?1 COLLATE NOCASE";

/// Inserts a user unless the name is taken.
const INSERT: &str = "INSERT INTO users(key, username, hash, created_at, sum)
    SELECT ?1, ?2, ?3, ?4, row_sum(?1, ?2, ?3, ?4)
    WHERE NOT EXISTS (SELECT 1 FROM users INDEXED BY users_by_name WHERE username = ?2 COLLATE NOCASE)
    ON CONFLICT(key) DO NOTHING";

/// A hash that no password has. The repair writes it, too.
const NO_PASSWORD: &str = "*";

/// The time of a registration.
fn now() -> i64 {
    i64::try_from(Timestamp::now().0).unwrap_or(i64::MAX)
}

/// Users in one SQLite file.
pub struct SqliteUsers {
    db: Database,
}

impl SqliteUsers {
    /// Opens the file. Blocks.
    pub fn open(path: &Path) -> Result<Self, embedded::Error> {
        Self::open_with(path, false)
    }

    /// Opens the file, also one that has lost committed data if that is accepted. A damaged password hash is then replaced by
    /// one that no password has, and the name stays taken. Blocks.
    pub fn open_with(path: &Path, accept_loss: bool) -> Result<Self, embedded::Error> {
        let repair: &[&str] = &[concat!(
            "UPDATE users SET hash = '*', sum = row_sum(key, username, '*', created_at)",
            " WHERE sum <> row_sum(key, username, hash, created_at)"
        )];
        Ok(Self { db: Database::open(path, Options { repair, accept_loss, ..Options::new(MIGRATIONS) })? })
    }

    /// The schema version of this release: the number of migrations.
    pub const SCHEMA: usize = MIGRATIONS.len();

    /// Queries that find what is wrong with the file.
    pub const CHECKS: &[Check] = &[Check {
        since: 2,
        sql: "SELECT 'the user ' || key || ' has a wrong checksum' FROM users
              WHERE sum <> row_sum(key, username, hash, created_at)",
    }];

    /// Stores users of these names whose password hash no password has, so that the names stay taken. Names that are taken are left as they
    /// are. Queued at the call.
    pub fn reserve(
        &self,
        names: Vec<Username>,
    ) -> impl Future<Output = Result<(), embedded::Error>> + Send + use<> {
        let now = now();
        self.db.write(move |conn| {
            let mut insert = conn.prepare_cached(INSERT)?;
            for name in &names {
                insert.execute(params![name.key(), name.as_str(), NO_PASSWORD, now])?;
            }
            Ok(())
        })
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
        let now = now();
        let row = move |conn: &rusqlite::Connection| {
            conn.prepare_cached(INSERT)?.execute(params![username.key(), username.as_str(), hash, now])
        };
        Ok(if self.db.write(row).await? == 1 { Creation::Created } else { Creation::Exists })
    }

    async fn find(&self, key: &str) -> Result<Option<User>, Error> {
        let key = key.to_owned();
        // The key that was asked for, and not that of the row which was found.
        let sql =
            "SELECT username, hash, sum <> row_sum(?1, username, hash, created_at) FROM users WHERE key = ?1";
        let row = move |conn: &rusqlite::Connection| {
            let found = |row: &rusqlite::Row<'_>| match row.get::<_, Option<bool>>(2)? {
                Some(true) => Err(embedded::damaged_row("a user")),
                _ => Ok((row.get::<_, String>(0)?, row.get(1)?)),
            };
            let found = conn.prepare_cached(sql)?.query_row([&key], found).optional()?;
            match found.is_none() && conn.prepare_cached(BY_NAME)?.exists([&key])? {
                true => Err(embedded::damaged_row("the key of a user")),
                false => Ok(found),
            }
        };
        let found = self.db.read(row).await;
        let found = found.map_err(|error| match error.is_damaged_row() {
            true => Error::Damaged("row"),
            false => error.into(),
        });
        let Some((username, hash)) = found? else { return Ok(None) };
        let username = username.parse().map_err(|_| Error::Damaged("username"))?;
        Ok(Some(User { username, hash }))
    }

    async fn renew(&self, key: &str, old: &str, new: &str) -> Result<(), Error> {
        let (key, old, new) = (key.to_owned(), old.to_owned(), new.to_owned());
        let sql = "UPDATE users SET hash = ?3, sum = row_sum(key, username, ?3, created_at)
            WHERE key = ?1 AND hash = ?2";
        let row =
            move |conn: &rusqlite::Connection| conn.prepare_cached(sql)?.execute(params![key, old, new]);
        self.db.write(row).await?;
        Ok(())
    }

    async fn highest_cost(&self) -> Result<Option<u32>, Error> {
        let sql = format!(
            "SELECT MAX(CAST(substr(hash, 5, 2) AS INTEGER)) FROM users
             WHERE hash GLOB '$2?$[0-9][0-9]$*' AND ({BAD}) IS NOT 1"
        );
        Ok(self.db.read(move |conn| conn.query_row(&sql, [], |row| row.get(0))).await?)
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
