//! The files of a store: the lock of their directory, connections with the settings that durability needs, the schema, copies and checks.
//! Called by [`Database`](crate::Database) and by the tools for backups and checks.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use rusqlite::{
    Connection, OpenFlags, TransactionBehavior,
    backup::{Backup, StepResult},
};

use crate::Error;

/// The number of prepared statements that are cached per connection.
const STATEMENTS: usize = 128;

/// The schema version of files of this release (`user_version`).
const VERSION: u32 = 1;

/// The name of the lock file.
const LOCK: &str = "lock";

/// Creates `directory` (mode 0700) where it is missing, and locks it against other processes until the returned file is dropped.
///
/// # Errors
/// When another process holds the lock, or the directory cannot be used.
pub fn lock(directory: &Path) -> Result<File, Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| Error::at(directory, error))?;
    let lock = private(&directory.join(LOCK)).map_err(|error| Error::at(directory, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::at(directory, "it is in use by another process")),
        Err(TryLockError::Error(error)) => Err(Error::at(directory, error)),
    }
}

/// Opens or creates a file that only its owner may access.
pub fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Opens the only connection that writes, and creates the schema in an empty file.
pub fn writing(path: &Path, schema: &str) -> Result<Connection, Error> {
    let at = |error| Error::at(path, error);
    let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(at)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(at)?;
    if mode != "wal" {
        return Err(Error::at(path, format!("the journal mode is {mode} and not wal")));
    }
    // The writer runs checkpoints itself, because jobs must not wait for them.
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;",
    )
    .map_err(at)?;
    match version(&conn).map_err(at)? {
        0 => create(&mut conn, schema).map_err(at)?,
        VERSION => {}
        found => {
            let reason = format!(
                "it has schema {found}, and this program needs {VERSION}; use the program that wrote it"
            );
            return Err(Error::at(path, reason));
        }
    }
    Ok(conn)
}

/// Opens a connection that only reads.
pub fn reading(path: &Path) -> Result<Connection, Error> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| Error::at(path, error))
}

fn connect(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

fn version(conn: &Connection) -> rusqlite::Result<u32> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn create(conn: &mut Connection, schema: &str) -> rusqlite::Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(schema)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Copies one snapshot of the file `from`, which another process may have open, to the new file `to` (mode 0600), and syncs it.
///
/// # Errors
/// When `from` cannot be read, or `to` exists or cannot be written.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let at = |error| Error::at(to, error);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let file = file.map_err(|error| Error::at(to, error))?;
    let source = reading(from)?;
    let mut copy = Connection::open(to).map_err(at)?;
    copy.execute_batch("PRAGMA synchronous = OFF").map_err(at)?;
    let backup = Backup::new(&source, &mut copy).map_err(at)?;
    // One step reads all pages in one transaction.
    match backup.step(-1) {
        Ok(StepResult::Done) => {}
        Ok(_) => return Err(Error::at(from, "it is busy: try again")),
        Err(error) => return Err(Error::at(from, error)),
    }
    drop(backup);
    copy.close().map_err(|(_, error)| at(error))?;
    file.sync_all().map_err(|error| Error::at(to, error))
}

/// The result of [`check`].
#[derive(Debug)]
pub struct Checked {
    /// What is wrong with the file, in the words of SQLite. Empty when it is whole.
    pub faults: Vec<String>,
    /// The number of rows of each table.
    pub counts: Vec<(String, i64)>,
}

/// Reads the whole file, which another process may have open, with SQLite's integrity check, and counts the rows.
///
/// # Errors
/// When the file cannot be read.
pub fn check(path: &Path) -> Result<Checked, Error> {
    fs::metadata(path).map_err(|error| Error::at(path, error))?;
    let conn = reading(path)?;
    let texts = |query: &str| -> rusqlite::Result<Vec<String>> {
        conn.prepare(query)?.query_map([], |row| row.get(0))?.collect()
    };
    let read = || {
        let mut faults = texts("PRAGMA integrity_check")?;
        faults.retain(|fault| fault != "ok");
        let tables =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name";
        let count = |table: String| {
            let query = format!("SELECT count(*) FROM \"{table}\"");
            Ok((table, conn.query_row(&query, [], |row| row.get(0))?))
        };
        let counts = texts(tables)?.into_iter().map(count).collect::<rusqlite::Result<_>>()?;
        Ok(Checked { faults, counts })
    };
    read().map_err(|error: rusqlite::Error| Error::at(path, error))
}
