//! Sessions in one SQLite file, for the role `serve`. Calls [`embedded`]; used through [`Sessions`].

use std::path::Path;

use async_trait::async_trait;
use embedded::{Database, Options};
use proto::{Timestamp, Username};
use rusqlite::{Connection, OptionalExtension, params, types::Type};

use crate::{
    Cause, Closing, ClosingSender, Closings, Error, LIFETIME_SECONDS, PER_USER, SessionId, Sessions, Token,
};

/// `number` is the order of opening, `user` the key of the username, `replaces` a JSON array of the ids of the sessions that this one
/// replaces, until its first use. No token can be derived from a row.
const SCHEMA: &str = "
    CREATE TABLE sessions(
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        user TEXT NOT NULL,
        username TEXT NOT NULL,
        issued_at INTEGER NOT NULL,
        replaces TEXT NOT NULL DEFAULT '[]'
    ) STRICT;
    CREATE INDEX sessions_by_user ON sessions(user, number);
    CREATE INDEX sessions_by_age ON sessions(issued_at);
";

/// The number of closings that are buffered for a watcher. A watcher that lags further loses the oldest.
const CLOSINGS: usize = 1_024;

/// Sessions in one SQLite file.
pub struct SqliteSessions {
    db: Database,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    closings: ClosingSender,
}

impl SqliteSessions {
    /// Opens the file. `clock` is [`Timestamp::now`], except in tests. Blocks; call it at start.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(
        path: &Path,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self, embedded::Error> {
        let db = Database::open(path, Options::new(SCHEMA))?;
        Ok(Self { db, clock: Box::new(clock), closings: ClosingSender::new(CLOSINGS) })
    }

    /// The open file, to check and to close it.
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// Runs `job` in the writer. After the commit, watchers receive the closings that it returns, in commit order.
    async fn write(
        &self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<Vec<Closing>> + Send + 'static,
    ) -> Result<(), Error> {
        let closings = self.closings.clone();
        let publish =
            move |closed: &Vec<Closing>| closed.iter().for_each(|closing| closings.send(closing.clone()));
        Ok(self.db.write_then(job, publish).await.map(drop)?)
    }

    fn now(&self) -> i64 {
        i64::try_from((self.clock)().0).unwrap_or(i64::MAX)
    }
}

#[async_trait]
impl Sessions for SqliteSessions {
    async fn open(&self, user: &Username, old: &[Token]) -> Result<Token, Error> {
        let token = Token::generate()?;
        let (id, user, now) = (token.id(), user.clone(), self.now());
        let old: Vec<SessionId> = old.iter().map(Token::id).collect();
        self.write(move |conn| {
            let mut closed = sweep(conn, now)?;
            for old in &old {
                closed.extend(close_replaced(conn, old)?);
            }
            insert(conn, &id, &user, now, &old)?;
            closed.extend(evict(conn, &user, &id)?);
            Ok(closed)
        })
        .await?;
        Ok(token)
    }

    async fn find(&self, id: &SessionId) -> Result<Option<Username>, Error> {
        let (selected, oldest) = (id.clone(), oldest_live(self.now()));
        let found = self.db.read(move |conn| select(conn, &selected, oldest)).await?;
        let Some((username, has_replaced)) = found else { return Ok(None) };
        if has_replaced {
            let id = id.clone();
            self.write(move |conn| close_replaced(conn, &id)).await?;
        }
        Ok(Some(username))
    }

    async fn close(&self, id: &SessionId) -> Result<(), Error> {
        let id = id.clone();
        self.write(move |conn| {
            let mut closed = close_replaced(conn, &id)?;
            let sql = "DELETE FROM sessions WHERE id = ?1 RETURNING id";
            closed.extend(close_all(conn, Cause::Ended, sql, params![id.as_str()])?);
            Ok(closed)
        })
        .await
    }

    fn closings(&self) -> Closings {
        self.closings.subscribe()
    }
}

/// The user of a session that was issued after `oldest`, and whether the session replaces others.
fn select(conn: &Connection, id: &SessionId, oldest: i64) -> rusqlite::Result<Option<(Username, bool)>> {
    let sql = "SELECT username, replaces <> '[]' FROM sessions WHERE id = ?1 AND issued_at > ?2";
    let row = |row: &rusqlite::Row<'_>| {
        let username = row.get::<_, String>(0)?.parse();
        let username = username
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))?;
        Ok((username, row.get(1)?))
    };
    conn.prepare_cached(sql)?.query_row(params![id.as_str(), oldest], row).optional()
}

fn insert(
    conn: &Connection,
    id: &SessionId,
    user: &Username,
    now: i64,
    replaces: &[SessionId],
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO sessions(id, user, username, issued_at, replaces) VALUES (?1, ?2, ?3, ?4, ?5)";
    let ids: Vec<&str> = replaces.iter().map(SessionId::as_str).collect();
    let replaces = serde_json::json!(ids).to_string();
    conn.prepare_cached(sql)?
        .execute(params![id.as_str(), user.key(), user.as_str(), now, replaces])
        .map(drop)
}

/// Closes the sessions that `new` replaces.
fn close_replaced(conn: &Connection, new: &SessionId) -> rusqlite::Result<Vec<Closing>> {
    let sql = "DELETE FROM sessions WHERE id IN
        (SELECT value FROM json_each((SELECT replaces FROM sessions WHERE id = ?1))) RETURNING id";
    let closed = close_all(conn, Cause::Replaced, sql, params![new.as_str()])?;
    conn.prepare_cached("UPDATE sessions SET replaces = '[]' WHERE id = ?1 AND replaces <> '[]'")?
        .execute([new.as_str()])?;
    Ok(closed)
}

/// Closes the oldest sessions of a user beyond [`PER_USER`], not counting those that `new` replaces.
fn evict(conn: &Connection, user: &Username, new: &SessionId) -> rusqlite::Result<Vec<Closing>> {
    let sql = "DELETE FROM sessions WHERE number IN (
        SELECT number FROM sessions WHERE user = ?1 AND id NOT IN
            (SELECT value FROM json_each((SELECT replaces FROM sessions WHERE id = ?3)))
        ORDER BY number DESC LIMIT -1 OFFSET ?2) RETURNING id";
    close_all(conn, Cause::Evicted, sql, params![user.key(), PER_USER as i64, new.as_str()])
}

/// Deletes the expired sessions.
fn sweep(conn: &Connection, now: i64) -> rusqlite::Result<Vec<Closing>> {
    let sql = "DELETE FROM sessions WHERE issued_at <= ?1 RETURNING id";
    close_all(conn, Cause::Expired, sql, params![oldest_live(now)])
}

/// Runs a statement that deletes sessions and returns their ids.
fn close_all(
    conn: &Connection,
    cause: Cause,
    sql: &str,
    of: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<Closing>> {
    let mut statement = conn.prepare_cached(sql)?;
    let ids: Vec<String> = statement.query_map(of, |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(ids.iter().filter_map(|id| Some(Closing { id: id.parse().ok()?, cause })).collect())
}

/// Sessions issued at this time or before it have expired.
fn oldest_live(now: i64) -> i64 {
    now.saturating_sub_unsigned(LIFETIME_SECONDS * 1_000)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use tempfile::TempDir;

    use super::*;
    use crate::conformance;

    fn open(directory: &TempDir, clock: &Arc<AtomicU64>) -> SqliteSessions {
        let clock = clock.clone();
        let now = move || Timestamp(clock.load(Ordering::Relaxed));
        SqliteSessions::open(&directory.path().join("sessions.sqlite3"), now).unwrap()
    }

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn conforms() {
        let directory = TempDir::new().unwrap();
        conformance::run(Arc::new(open(&directory, &Arc::default()))).await.unwrap();
    }

    #[tokio::test]
    async fn sessions_survive_a_restart_and_the_file_contains_no_token() {
        let (directory, clock) = (TempDir::new().unwrap(), Arc::default());
        let sessions = open(&directory, &clock);
        let kept = sessions.open(&user("Alice"), &[]).await.unwrap();
        let closed = sessions.open(&user("bob"), &[]).await.unwrap();
        sessions.close(&closed.id()).await.unwrap();
        drop(sessions);
        let file = std::fs::read(directory.path().join("sessions.sqlite3")).unwrap();
        for token in [&kept, &closed] {
            assert!(!file.windows(token.reveal().len()).any(|window| window == token.reveal().as_bytes()));
        }
        let sessions = open(&directory, &clock);
        assert_eq!(sessions.find(&kept.id()).await.unwrap(), Some(user("Alice")));
        assert_eq!(sessions.find(&closed.id()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_session_expires_after_its_lifetime_and_does_not_evict_live_ones() {
        let (directory, clock) = (TempDir::new().unwrap(), Arc::default());
        let sessions = open(&directory, &clock);
        let mut closings = sessions.closings();
        let first = sessions.open(&user("alice"), &[]).await.unwrap().id();
        for _ in 1..PER_USER {
            sessions.open(&user("alice"), &[]).await.unwrap();
        }
        clock.fetch_add(LIFETIME_SECONDS * 1_000 - 1, Ordering::Relaxed);
        assert!(sessions.find(&first).await.unwrap().is_some(), "a millisecond before its end");
        clock.fetch_add(1, Ordering::Relaxed);
        assert_eq!(sessions.find(&first).await.unwrap(), None);
        sessions.open(&user("alice"), &[]).await.unwrap();
        assert_eq!(closings.recv().await, Ok(Closing { id: first, cause: Cause::Expired }));
    }
}
