//! Sessions in one SQLite file, for the role `serve`. Calls [`embedded`]; used through [`Sessions`].

mod replacements;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use embedded::{Database, Options};
use proto::{Timestamp, Username};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    Clock, Closing, ClosingSender, Closings, Error, LIFETIME_SECONDS, PER_USER, Session, SessionId, Sessions,
    Token,
};

/// `number` is the order of opening, and `user` the key of the username. No token can be derived from a row. A row of `replacements` means
/// that `new` was opened to replace `old` and was not used yet. It is deleted with either session.
const SCHEMA: &str = "
    CREATE TABLE sessions(
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        user TEXT NOT NULL,
        username TEXT NOT NULL,
        issued_at INTEGER NOT NULL,
        superseded INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX sessions_by_user ON sessions(user, number);
    CREATE INDEX sessions_by_age ON sessions(issued_at);
    CREATE TABLE replacements(
        new TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
        old TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
        PRIMARY KEY (new, old)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX replacements_by_old ON replacements(old);
";

/// The interval between two deletions of expired sessions, in milliseconds (1 h). An expired session is not found before that either.
const SWEEP_MILLIS: u64 = 3_600_000;

/// The maximum by which the issue time of a session may be ahead of the clock, in milliseconds (1 h).
const MAX_AHEAD_MILLIS: i64 = 3_600_000;

/// The number of closings that are buffered for a watcher. A watcher that lags further loses the oldest.
const CLOSINGS: usize = 1_024;

/// Sessions in one SQLite file.
pub struct SqliteSessions {
    db: Database,
    clock: Clock,
    /// The time by which expired sessions are deleted. `None` while the clock is not plausible.
    settled: Arc<dyn Fn() -> Option<Timestamp> + Send + Sync>,
    closings: ClosingSender,
    /// The time of the last deletion of expired sessions, in milliseconds since the Unix epoch.
    swept: Arc<AtomicU64>,
}

impl SqliteSessions {
    /// Opens the file with this clock and starts to delete expired sessions. Blocks; for tests.
    pub fn open(
        path: &Path,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self, embedded::Error> {
        let clock: Clock = Arc::new(clock);
        let settled = clock.clone();
        Self::open_with(path, move || clock(), move || Some(settled()))
    }

    /// Opens the file and starts to delete expired sessions. `clock` is [`ages::now`](crate::ages::now), and `settled` is
    /// [`ages::settled`](crate::ages::settled). Blocks; call it at start.
    pub fn open_with(
        path: &Path,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        settled: impl Fn() -> Option<Timestamp> + Send + Sync + 'static,
    ) -> Result<Self, embedded::Error> {
        let db = Database::open(path, Options::new(SCHEMA))?;
        let closings = ClosingSender::new(CLOSINGS);
        let swept = Arc::new(AtomicU64::new(0));
        let this = Self { db, clock: Arc::new(clock), settled: Arc::new(settled), closings, swept };
        if let Some(now) = this.due_sweep() {
            // The write is queued at the call and runs before any later write, so the future need not be awaited.
            drop(this.db.write_then(move |conn| sweep(conn, now), this.publisher()));
        }
        Ok(this)
    }

    /// The open file, to check and to close it.
    pub fn database(&self) -> &Database {
        &self.db
    }

    fn now(&self) -> i64 {
        millis((self.clock)())
    }

    /// A function that runs after a commit and publishes closings to the watchers, in commit order.
    fn publisher(&self) -> impl FnOnce(&Vec<Closing>) + Send + use<> {
        let closings = self.closings.clone();
        move |closed| {
            for closing in closed {
                closings.send(closing.clone());
            }
        }
    }

    /// The time by which expired sessions are deleted now. `None` within an hour after the last deletion, and while the clock is not
    /// plausible.
    fn due_sweep(&self) -> Option<i64> {
        let now = millis((self.settled)()?);
        let at = now.unsigned_abs();
        let due = |last: u64| (at.abs_diff(last) >= SWEEP_MILLIS).then_some(at);
        self.swept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).ok().map(|_| now)
    }
}

#[async_trait]
impl Sessions for SqliteSessions {
    async fn replace(&self, user: &Username, old: &[Token]) -> Result<Token, Error> {
        let token = Token::generate()?;
        let (id, user, now) = (token.id(), user.clone(), self.now());
        let old: Vec<SessionId> = old.iter().map(Token::id).collect();
        let due = self.due_sweep();
        let job = move |conn: &Connection| {
            let mut closed = due.map_or_else(|| Ok(Vec::new()), |now| sweep(conn, now))?;
            insert(conn, &id, &user, now)?;
            replacements::record(conn, &id, &old)?;
            closed.extend(evict(conn, &user, &id)?);
            Ok(closed)
        };
        self.db.write_then(job, self.publisher()).await?;
        Ok(token)
    }

    async fn supersede(&self, new: &SessionId) -> Result<(), Error> {
        let new = new.clone();
        let job = move |conn: &Connection| replacements::supersede(conn, &new);
        Ok(self.db.write_then(job, self.publisher()).await.map(drop)?)
    }

    async fn find_by_id(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        let (selected, oldest) = (id.clone(), oldest_live(self.now()));
        let found = self.db.read(move |conn| select(conn, &selected, oldest)).await?;
        if found.as_ref().is_some_and(|row| row.is_unused) {
            let new = id.clone();
            let job = move |conn: &Connection| replacements::close_replaced(conn, &new);
            self.db.write_then(job, self.publisher()).await?;
        }
        Ok(found.and_then(|row| row.restore(id.clone())))
    }

    async fn close(&self, token: &Token) -> Result<bool, Error> {
        let (id, oldest) = (token.id(), oldest_live(self.now()));
        let job = move |conn: &Connection| {
            let mut closed = Vec::new();
            for related in replacements::related(conn, &id)? {
                let live = select(conn, &related, oldest)?.is_some();
                remove(conn, &related)?;
                closed.extend(live.then(|| Closing::ended(related)));
            }
            let was_live = closed.iter().any(|closing| closing.id == id);
            Ok((was_live, closed))
        };
        let publish = self.publisher();
        let (was_live, _) = self.db.write_then(job, move |(_, closed)| publish(closed)).await?;
        Ok(was_live)
    }

    fn closings(&self) -> Closings {
        self.closings.subscribe()
    }
}

fn insert(conn: &Connection, id: &SessionId, user: &Username, now: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO sessions(id, user, username, issued_at) VALUES (?1, ?2, ?3, ?4)";
    conn.prepare_cached(sql)?.execute(params![id.as_str(), user.key(), user.as_str(), now]).map(drop)
}

/// The content of a row.
struct Row {
    username: String,
    issued_at: i64,
    is_superseded: bool,
    /// Whether the session replaces others and was not used yet.
    is_unused: bool,
}

/// The row of a session that was issued after `oldest`, and at most one lifetime and [`MAX_AHEAD_MILLIS`] after it. A later issue time
/// comes from a wrong clock, and such a session would be live for years.
fn select(conn: &Connection, id: &SessionId, oldest: i64) -> rusqlite::Result<Option<Row>> {
    let sql = "SELECT username, issued_at, superseded, EXISTS (SELECT 1 FROM replacements WHERE new = ?1)
               FROM sessions WHERE id = ?1 AND issued_at > ?2 AND issued_at <= ?3";
    let lifetime = i64::try_from(LIFETIME_SECONDS * 1_000).unwrap_or(i64::MAX);
    let newest = oldest.saturating_add(lifetime).saturating_add(MAX_AHEAD_MILLIS);
    let row = |row: &rusqlite::Row<'_>| {
        let (username, issued_at) = (row.get(0)?, row.get(1)?);
        let (is_superseded, is_unused) = (row.get(2)?, row.get(3)?);
        Ok(Row { username, issued_at, is_superseded, is_unused })
    };
    conn.prepare_cached(sql)?.query_row(params![id.as_str(), oldest, newest], row).optional()
}

/// Deletes a session and returns whether it existed.
fn remove(conn: &Connection, id: &SessionId) -> rusqlite::Result<bool> {
    Ok(conn.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([id.as_str()])? > 0)
}

/// Closes the oldest sessions of a user beyond [`PER_USER`], not counting those that `new` replaces.
fn evict(conn: &Connection, user: &Username, new: &SessionId) -> rusqlite::Result<Vec<Closing>> {
    let sql = "DELETE FROM sessions WHERE number IN
        (SELECT number FROM sessions WHERE user = ?1 AND id NOT IN (SELECT old FROM replacements WHERE new = ?3)
        ORDER BY number DESC LIMIT -1 OFFSET ?2) RETURNING id";
    deleted(conn, sql, params![user.key(), PER_USER as i64, new.as_str()], Closing::evicted)
}

/// Deletes the expired sessions.
fn sweep(conn: &Connection, now: i64) -> rusqlite::Result<Vec<Closing>> {
    deleted(
        conn,
        "DELETE FROM sessions WHERE issued_at <= ?1 RETURNING id",
        params![oldest_live(now)],
        Closing::expired,
    )
}

fn deleted(
    conn: &Connection,
    sql: &str,
    of: &[&dyn rusqlite::ToSql],
    closing: fn(SessionId) -> Closing,
) -> rusqlite::Result<Vec<Closing>> {
    Ok(ids(conn, sql, of)?.into_iter().map(closing).collect())
}

/// The ids that a statement returns. Values that are not session ids are skipped.
fn ids(conn: &Connection, sql: &str, of: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<Vec<SessionId>> {
    let mut statement = conn.prepare_cached(sql)?;
    let ids = statement.query_map(of, |row| row.get::<_, String>(0))?;
    Ok(ids.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|id| id.parse().ok()).collect())
}

impl Row {
    /// The session of the row. `None` when this crate cannot have written the row, because such a row proves no identity.
    fn restore(self, id: SessionId) -> Option<Session> {
        let Self { username, issued_at, is_superseded, is_unused: _ } = self;
        match (username.parse(), u64::try_from(issued_at)) {
            (Ok(username), Ok(issued_at)) => {
                Some(Session { id, username, issued_at: Timestamp(issued_at), is_superseded })
            }
            _ => {
                tracing::error!(session = %id, "a stored session is damaged and counts as closed");
                None
            }
        }
    }
}

/// Sessions issued at this time or before it have expired.
fn oldest_live(now: i64) -> i64 {
    now.saturating_sub_unsigned(LIFETIME_SECONDS * 1_000)
}

fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
