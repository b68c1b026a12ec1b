//! A snapshot of a store, for backups and checks. It can be read while another process has the store open, and does not block that
//! process. Writes nothing into the store.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use crate::{
    Error, causes, completeness,
    damage::{self, Finding},
    file::{self, beside, escaped},
    lock_record::LockRecord,
    refusals::is_lock,
    row_sum,
    state::{self, State},
};

/// The number of pages per copy step (8 MiB at 4 KiB per page). Progress is reported after each step.
const STEP: i32 = 2_048;

/// The pause of a copy before it retries a step during which another process held a lock.
const PAUSE: Duration = Duration::from_millis(20);

/// A query that finds damage in a store. Each row of the result is a sentence.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The first schema version (number of migrations) with the tables and columns of the query. The query is skipped for older stores.
    pub since: u32,
    /// The query.
    pub sql: &'static str,
}

/// The maximum number of findings of one check.
const FINDINGS: usize = 20;

/// The state of a store at one point in time.
pub struct Snapshot {
    conn: Connection,
    path: PathBuf,
    /// The locks that prevent servers from opening the store. `None` while a process has the store open.
    lock: Option<Locks>,
    /// The damage of the log. Found before a connection is opened, because SQLite drops the frames after a bad frame and rebuilds the
    /// index.
    fault: Option<String>,
    record: LockRecord,
    /// The state in the database file without its log. `None` when there is no log, or when a process has the store open.
    file: Option<State>,
}

/// The locked files.
struct Locks {
    /// The lock file. `None` if it does not exist.
    _lock: Option<File>,
    _database: File,
}

impl Snapshot {
    /// Opens a snapshot of the file at `path`. When no process has the store open, no process can open it until the snapshot is dropped.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Open`] when the store cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let at = |source| Error::File { path: path.to_owned(), source };
        let open = |source| Error::Open { path: path.to_owned(), source };
        if fs::metadata(path).map_err(at)?.len() == 0 && damage::has_no_log(path) {
            return Err(at(io::Error::new(io::ErrorKind::InvalidData, "the file is empty")));
        }
        let lock = lock_shared(path).map_err(at)?;
        let record = LockRecord::read(path);
        let fault = match lock {
            None => None,
            Some(_) => match damage::examine(path, record.same_boot).map_err(at)? {
                Finding::Torn(what) | Finding::Lost(what) => Some(what),
                Finding::Emptied(what) => record.opening.is_none().then_some(what),
                Finding::Whole => None,
            },
        };
        let has_log = lock.is_some() && !damage::has_no_log(path);
        let file = has_log.then(|| state::of_file(path)).flatten();
        let fault = fault.or_else(|| {
            completeness::is_foreign(record.opening.as_ref(), file.as_ref())
                .then(|| Error::ForeignLog { path: path.to_owned() }.to_string())
        });
        let conn = match lock.is_some() && (fault.is_some() || damage::has_no_log(path)) {
            // No process writes, and the database file is read alone: SQLite creates no files beside it and does not change a damaged
            // log.
            true => file::immutable(path),
            false => file::reading(path),
        };
        let locked = |source| match is_lock(&source) {
            true => causes::with_cause(path, open(source)),
            false => open(source),
        };
        let conn = conn.map_err(locked)?;
        conn.execute_batch("BEGIN").map_err(locked)?;
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(locked)?;
        Ok(Self { conn, path: path.to_owned(), lock, fault, record, file })
    }

    /// Whether a process has the store open.
    pub fn is_live(&self) -> bool {
        self.lock.is_none()
    }

    /// The group of files that the store belongs to.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn group(&self) -> Result<Option<String>, Error> {
        Ok(state::group(&self.conn)?)
    }

    /// The position that [`Database::set_compared`](crate::Database::set_compared) has recorded.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn compared(&self) -> Result<Option<String>, Error> {
        Ok(state::compared(&self.conn)?)
    }

    /// The schema version: the number of migrations.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn version(&self) -> Result<u32, Error> {
        Ok(self.conn.query_row("PRAGMA user_version", [], |row| row.get(0))?)
    }

    /// The first column of all rows of a query.
    ///
    /// # Errors
    /// When the query fails.
    pub fn column(&self, query: &str) -> Result<Vec<String>, Error> {
        let mut statement = self.conn.prepare(query)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The committed data that is missing or damaged in the log, as a text. `None` when the log is complete, and while a process has the
    /// store open, because the log then changes.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log_fault(&self) -> Result<Option<String>, Error> {
        let (path, open) = (&self.path, |source| Error::Open { path: self.path.clone(), source });
        if self.is_live() {
            return Ok(None);
        }
        if let Some(fault) = &self.fault {
            return Ok(Some(fault.clone()));
        }
        let found = state::read(&self.conn).map_err(open)?;
        if completeness::is_foreign_to_closed(&self.record, self.file.as_ref(), &found) {
            return Ok(Some(Error::ForeignLog { path: path.clone() }.to_string()));
        }
        Ok(match damage::has_no_log(path) {
            true => completeness::missing_without_log(&self.record, &found),
            false => completeness::missing_with_log(&self.record, self.file.as_ref(), &found),
        })
    }

    /// Checks the whole store and returns the findings as sentences: those of SQLite's integrity check, then those of each query of
    /// `checks`. At most 20 per check.
    ///
    /// # Errors
    /// When a query fails.
    pub fn findings(&self, checks: &[Check]) -> Result<Vec<String>, Error> {
        let integrity = format!("PRAGMA integrity_check({FINDINGS})");
        let mut findings = texts(&self.conn, &integrity)?;
        findings.retain(|finding| finding != "ok");
        for table in texts(
            &self.conn,
            "SELECT DISTINCT 'a row of ' || \"table\" || ' refers to a missing row' FROM pragma_foreign_key_check",
        )? {
            findings.push(table);
        }
        if state::is_there(&self.conn)? {
            findings.extend(texts(&self.conn, state::CHECK)?);
        }
        findings.extend(self.findings_of(checks)?);
        Ok(findings)
    }

    /// The findings of each query of `checks`.
    ///
    /// # Errors
    /// When a query fails.
    pub fn findings_of(&self, checks: &[Check]) -> Result<Vec<String>, Error> {
        let version = self.version()?;
        let mut findings = Vec::new();
        for check in checks.iter().filter(|check| check.since <= version) {
            findings.extend(texts(&self.conn, check.sql)?);
        }
        Ok(findings)
    }

    /// Attaches another store as the schema `people`, for the queries of [`Snapshot::findings_of`].
    ///
    /// # Errors
    /// When the other store cannot be read.
    pub fn attach_people(&self, other: &Self) -> Result<(), Error> {
        let immutable =
            if other.lock.is_some() && damage::has_no_log(&other.path) { "&immutable=1" } else { "" };
        let uri = format!("file:{}?mode=ro{immutable}", escaped(&other.path));
        // SQLite cannot attach a database within a transaction.
        self.conn.execute_batch("COMMIT")?;
        self.conn.execute("ATTACH DATABASE ?1 AS people", [uri])?;
        self.conn.execute_batch("BEGIN")?;
        // The snapshot of this store is taken first, so that the other store already contains the rows that this one refers to.
        Ok(self.conn.query_row("SELECT count(*) FROM main.sqlite_schema", [], |_| Ok(()))?)
    }

    /// Copies the snapshot to a new file at `to` and makes that file a member of `group`. `progress` gets the number of copied pages and
    /// the number of all pages.
    ///
    /// # Errors
    /// When the source cannot be read or the target cannot be written.
    pub fn copy_to(&self, to: &Path, group: &str, mut progress: impl FnMut(i32, i32)) -> Result<(), Error> {
        let mut copy = Connection::open(to)?;
        copy.execute_batch("PRAGMA synchronous = OFF")?;
        let backup = Backup::new(&self.conn, &mut copy)?;
        loop {
            match backup.step(STEP)? {
                StepResult::Done => break,
                StepResult::More => {
                    let now = backup.progress();
                    progress(now.pagecount - now.remaining, now.pagecount);
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
        drop(backup);
        row_sum::register(&copy)?;
        copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
        state::close(&copy)?;
        state::set_group(&copy, group)?;
        copy.close().map_err(|(_, error)| error)?;
        let sync = || File::options().write(true).open(to)?.sync_all();
        sync().map_err(|source| Error::File { path: to.to_owned(), source })
    }
}

/// The first column of the first [`FINDINGS`] rows.
fn texts(conn: &Connection, query: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare(query)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.take(FINDINGS).collect()
}

/// Takes shared locks, which other snapshots may hold too. `None` while a process has the store open. The database is opened only with the
/// lock: this process may have the store open, and `close` drops all locks of SQLite in the process on the file.
fn lock_shared(path: &Path) -> io::Result<Option<Locks>> {
    let shared = |file: File| match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    };
    let lock = match File::open(beside(path, ".lock")) {
        Ok(lock) => match shared(lock)? {
            None => return Ok(None),
            lock => lock,
        },
        // The store was copied without its lock file. Its filesystem may be read-only.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let database = shared(File::open(path)?)?;
    Ok(database.map(|database| Locks { _lock: lock, _database: database }))
}
