//! The state of a store, in the table `store_state`: whether it is open, how many transactions the current opening has committed, and
//! which files belong together. Written by [`Database::open`](crate::Database::open), the writer, and backups.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use crate::file;

/// The id of the opening. It stays in the database file until a clean end. So a copy of the file without its log can be distinguished
/// from a store that was closed, and the log of another database from that of this one.
const OPEN: &str = "open";

/// The id of the opening and the number of transactions that it has committed.
const COMMITS: &str = "commits";

/// The id that the files of one directory share.
const GROUP: &str = "group";

/// The identities of the files of the last start ([`identity`](crate::identity)).
const FILES: &str = "files";

/// A position in another store that refers to this store. Its references up to this position were compared with this store.
const COMPARED: &str = "compared";

/// A query for rows that no release writes. Each row of the result is a sentence.
pub const CHECK: &str = "SELECT 'store_state has an unknown row' FROM store_state
    WHERE key NOT IN ('open', 'commits', 'group', 'files', 'compared')";

/// One opening of a store, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The random id of the opening.
    pub id: String,
    /// The number of transactions that it has committed.
    pub commits: u64,
}

/// The state of a store at its last opening.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The id of the opening. `None` after a clean end.
    pub open: Option<String>,
    /// The number of its transactions. `None` before the first.
    pub commits: Option<Opening>,
    /// The identities of the files of the last start.
    pub files: Option<String>,
}

/// Reads the state.
pub fn read(conn: &Connection) -> rusqlite::Result<State> {
    let commits = get(conn, COMMITS)?.and_then(|text| {
        let (id, commits) = text.split_once(' ')?;
        Some(Opening { id: id.to_owned(), commits: commits.parse().ok()? })
    });
    Ok(State { open: get(conn, OPEN)?, commits, files: get(conn, FILES)? })
}

/// Reads the state in the database file without the log. `None` when it cannot be read.
pub fn of_file(path: &Path) -> Option<State> {
    let conn = file::immutable(path).ok()?;
    read(&conn).ok()
}

/// Whether the store is open, or was not closed by the last process that wrote to it.
pub fn is_open(conn: &Connection) -> rusqlite::Result<bool> {
    Ok(get(conn, OPEN)?.is_some())
}

/// Records that the store is open, and writes the record back from the log into the database file. False when a reader prevents the
/// latter.
pub fn open(conn: &Connection, id: &str) -> rusqlite::Result<bool> {
    set(conn, OPEN, id)?;
    delete(conn, COMMITS)?;
    let (blocked, all, done): (i64, i64, i64) =
        conn.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(blocked == 0 && all == done)
}

/// Writes the number of transactions that the opening has committed, including the current one.
pub fn set_commits(conn: &Connection, Opening { id, commits }: &Opening) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO store_state VALUES (?1, ?2)";
    conn.prepare_cached(sql)?.execute([COMMITS, &format!("{id} {commits}")]).map(drop)
}

/// Records that the store is closed.
pub fn close(conn: &Connection) -> rusqlite::Result<()> {
    if !is_open(conn)? {
        return Ok(());
    }
    // One statement: without only one of the two rows the next start reports a loss.
    conn.execute("DELETE FROM store_state WHERE key IN (?1, ?2)", [COMMITS, OPEN]).map(drop)
}

/// The id of the group of files that the store belongs to.
pub fn group(conn: &Connection) -> rusqlite::Result<Option<String>> {
    get(conn, GROUP)
}

/// Makes the store a member of a group of files.
pub fn set_group(conn: &Connection, id: &str) -> rusqlite::Result<()> {
    set(conn, GROUP, id)
}

/// The position up to which the references of another store were compared with this store.
pub fn compared(conn: &Connection) -> rusqlite::Result<Option<String>> {
    get(conn, COMPARED)
}

/// Records the position up to which the references of another store were compared with this store.
pub fn set_compared(conn: &Connection, position: &str) -> rusqlite::Result<()> {
    set(conn, COMPARED, position)
}

/// The identities of the files of the last start.
pub fn files(conn: &Connection) -> rusqlite::Result<Option<String>> {
    get(conn, FILES)
}

/// Records the identities of the files of this start. `None` when the filesystem provides no stable identity.
pub fn set_files(conn: &Connection, files: Option<&str>) -> rusqlite::Result<()> {
    match files {
        Some(files) => set(conn, FILES, files),
        None if is_there(conn)? => delete(conn, FILES),
        None => Ok(()),
    }
}

/// Whether the table exists. Stores of earlier releases do not have it.
pub fn is_there(conn: &Connection) -> rusqlite::Result<bool> {
    let table = "SELECT count(*) FROM sqlite_schema WHERE name = 'store_state'";
    Ok(conn.query_row(table, [], |row| row.get::<_, i64>(0))? > 0)
}

fn get(conn: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    if !is_there(conn)? {
        return Ok(None);
    }
    let query = "SELECT value FROM store_state WHERE key = ?1";
    conn.query_row(query, [key], |row| row.get(0)).optional()
}

fn set(conn: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS store_state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    )?;
    conn.execute("INSERT OR REPLACE INTO store_state VALUES (?1, ?2)", [key, value]).map(drop)
}

fn delete(conn: &Connection, key: &str) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM store_state WHERE key = ?1", [key]).map(drop)
}

/// A new id for a group of files, or for an opening.
pub fn new_group() -> rusqlite::Result<String> {
    Connection::open_in_memory()?.query_row("SELECT lower(hex(randomblob(8)))", [], |row| row.get(0))
}
