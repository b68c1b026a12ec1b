//! [`RecoverySessions`] in the embedded SQLite file, table `tickets`. They persist across restarts.

use async_trait::async_trait;
use embedded::Database;
use proto::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{LIFETIME_MS, RecoverySession, RecoverySessions};
use crate::{
    Error,
    column::{integer, number},
};

/// The recovery sessions of `chat.sqlite3`.
#[derive(Clone)]
pub struct SqliteRecoverySessions {
    database: Database,
}

impl SqliteRecoverySessions {
    /// The recovery sessions of a database of a [`SqliteStore`](crate::sqlite_store::SqliteStore).
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl RecoverySessions for SqliteRecoverySessions {
    async fn issue(&self, session: RecoverySession) -> Result<(), Error> {
        Ok(self.database.write(move |conn| issue(conn, &session)).await?)
    }

    async fn find(&self, pid: &str, oldest: Timestamp) -> Result<Option<RecoverySession>, Error> {
        let pid = pid.to_owned();
        Ok(self.database.read(move |conn| find(conn, pid, oldest)).await?)
    }
}

fn issue(conn: &Connection, session: &RecoverySession) -> rusqlite::Result<()> {
    // At most 4 per connect, which keeps the table small and does not delay a connect for long.
    let delete =
        "DELETE FROM tickets WHERE pid IN (SELECT pid FROM tickets WHERE issued < ? ORDER BY issued LIMIT 4)";
    let oldest = session.issued.0.saturating_sub(LIFETIME_MS);
    conn.prepare_cached(delete)?.execute([integer(oldest)])?;
    let insert = "INSERT INTO tickets (pid, sid, user, since, issued) VALUES (?1, ?2, ?3, ?4, ?5)";
    let RecoverySession { pid, sid, user, since, issued } = session;
    let values = params![pid, sid, user.as_str(), integer(*since), integer(issued.0)];
    conn.prepare_cached(insert)?.execute(values)?;
    Ok(())
}

fn find(conn: &Connection, pid: String, oldest: Timestamp) -> rusqlite::Result<Option<RecoverySession>> {
    let query = "SELECT sid, user, since, issued FROM tickets WHERE pid = ?1 AND issued >= ?2";
    conn.prepare_cached(query)?
        .query_row(params![pid, integer(oldest.0)], |row| {
            let user: String = row.get(1)?;
            let user = user.try_into().map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
            })?;
            let (since, issued) = (number(row, 2)?, Timestamp(number(row, 3)?));
            Ok(RecoverySession { pid: pid.clone(), sid: row.get(0)?, user, since, issued })
        })
        .optional()
}

#[cfg(test)]
mod tests {
    use crate::{recovery_sessions::conformance, sqlite_store::SqliteStore};

    #[actix_rt::test]
    async fn passes_the_conformance_suite() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("chat.sqlite3")).unwrap();
        conformance::run(&*store.recovery_sessions()).await;
        let first = store.recovery_sessions().find(&format!("{:032x}", 1), proto::Timestamp(0)).await;
        assert_eq!(first, Ok(None), "expired sessions are deleted");
    }
}
