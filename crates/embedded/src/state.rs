//! What a store notes about itself in a table of its own: whether it is open, and which files belong together. Written by
//! [`Database::open`](crate::Database::open), the writer, and backups.

use rusqlite::{Connection, OptionalExtension};

/// Notes that the store is open. It stays in the database file until a clean end, so a copy of that file alone, without the
/// log beside it, can be distinguished from a store that was closed.
const OPEN: &str = "open";

/// The id that the files of one directory share.
const GROUP: &str = "group";

/// Whether the last process that wrote to the store did not close it.
pub fn is_open(conn: &Connection) -> rusqlite::Result<bool> {
    Ok(get(conn, OPEN)?.is_some())
}

/// Notes that the store is open, in the database file itself.
pub fn open(conn: &Connection) -> rusqlite::Result<()> {
    set(conn, OPEN, "1")?;
    conn.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))
}

/// Notes that the store was closed.
pub fn close(conn: &Connection) -> rusqlite::Result<()> {
    if !is_open(conn)? {
        return Ok(());
    }
    conn.execute("DELETE FROM store_state WHERE key = ?1", [OPEN]).map(drop)
}

/// The id of the group of files that this one belongs to.
pub fn group(conn: &Connection) -> rusqlite::Result<Option<String>> {
    get(conn, GROUP)
}

/// Makes the file one of a group.
pub fn set_group(conn: &Connection, id: &str) -> rusqlite::Result<()> {
    set(conn, GROUP, id)
}

fn get(conn: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    let table = "SELECT count(*) FROM sqlite_schema WHERE name = 'store_state'";
    if conn.query_row(table, [], |row| row.get::<_, i64>(0))? == 0 {
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

/// A new id for a group of files.
pub fn new_group() -> rusqlite::Result<String> {
    Connection::open_in_memory()?.query_row("SELECT lower(hex(randomblob(8)))", [], |row| row.get(0))
}
