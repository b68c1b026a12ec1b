//! One state of a store, read without disturbing the process that has it open, or while no process has. For backups and checks;
//! writes nothing into the store.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

use crate::{
    Error,
    damage::{self, Finding},
    file::{self, beside},
    row_sum, schema, state,
};

/// Pages that are copied at once (8 MiB at 4 KiB); between two of these a progress is shown.
const STEP: i32 = 2_048;

/// How long a copy waits for a moment in which another process does not checkpoint.
const PAUSE: Duration = Duration::from_millis(20);

/// How SQLite names columns that stores of earlier releases lack: the checksum of a row, and the last number that an earlier room of
/// the same name has given.
const LATER: [&str; 2] = ["no such column: sum", "no such column: base"];

/// The most findings of one check.
const FINDINGS: usize = 20;

/// A store as it was at one moment.
pub struct Snapshot {
    conn: Connection,
    path: PathBuf,
    /// Keeps servers out while no process has the store open; none while one has.
    lock: Option<File>,
    /// What the log lacks, found before any connection was opened: SQLite drops what is behind a bad frame and writes the index anew.
    fault: Option<String>,
}

impl Snapshot {
    /// Opens the file at `path` and holds its present state. While no process has the store open none can open it until this
    /// is dropped.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Open`] when it cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let at = |source| Error::File { path: path.to_owned(), source };
        let open = |source| Error::Open { path: path.to_owned(), source };
        if fs::metadata(path).map_err(at)?.len() == 0 && damage::has_no_log(path) {
            return Err(at(io::Error::new(io::ErrorKind::InvalidData, "the file is empty")));
        }
        let lock = keep_others_out(path).map_err(at)?;
        let fault = match lock {
            None => None,
            Some(_) => match damage::examine(path, damage::is_same_boot(path)).map_err(at)? {
                Finding::Torn(what) | Finding::Lost(what) => Some(what),
                Finding::Whole => None,
            },
        };
        let conn = match lock.is_some() && (fault.is_some() || damage::has_no_log(path)) {
            // No process writes, and everything is in one file: SQLite makes no files beside it. A damaged log stays as it is.
            true => immutable(path),
            false => file::reading(path),
        };
        let conn = conn.map_err(open)?;
        conn.execute_batch("BEGIN").map_err(open)?;
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(open)?;
        Ok(Self { conn, path: path.to_owned(), lock, fault })
    }

    /// Whether a process has the store open.
    pub fn is_live(&self) -> bool {
        self.lock.is_none()
    }

    /// The group of files that it belongs to.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn group(&self) -> Result<Option<String>, Error> {
        Ok(state::group(&self.conn)?)
    }

    /// Whether the log lacks anything, in words. While a process writes to it this cannot be asked.
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
        let is_missing = damage::has_no_log(path) && state::is_open(&self.conn).map_err(open)?;
        Ok(is_missing.then(|| "the log is missing, and the store was not closed".to_owned()))
    }

    /// Reads everything and answers with what is wrong, in sentences: the structure, then each query of `checks`, whose rows
    /// are findings. At most 20 of each.
    ///
    /// # Errors
    /// When a query fails.
    pub fn findings(&self, checks: &[String]) -> Result<Vec<String>, Error> {
        let integrity = format!("PRAGMA integrity_check({FINDINGS})");
        let mut findings = texts(&self.conn, &integrity)?;
        findings.retain(|finding| finding != "ok");
        for table in texts(
            &self.conn,
            "SELECT DISTINCT 'a row of ' || \"table\" || ' refers to none' FROM pragma_foreign_key_check",
        )? {
            findings.push(table);
        }
        findings.extend(self.findings_of(checks)?);
        Ok(findings)
    }

    /// What each query of `checks` finds.
    ///
    /// # Errors
    /// When a query fails.
    pub fn findings_of(&self, checks: &[String]) -> Result<Vec<String>, Error> {
        let mut findings = Vec::new();
        for check in checks {
            match texts(&self.conn, check) {
                Ok(found) => findings.extend(found),
                // A store of an earlier release, which has not what this check is about.
                Err(error) if LATER.iter().any(|column| error.to_string().contains(column)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(findings)
    }

    /// Attaches another store for the queries of [`Snapshot::findings`], as `people`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn attach_people(&self, other: &Self) -> Result<(), Error> {
        let immutable =
            if other.lock.is_some() && damage::has_no_log(&other.path) { "&immutable=1" } else { "" };
        let uri = format!("file:{}?mode=ro{immutable}", escaped(&other.path));
        // No database can be attached within a transaction.
        self.conn.execute_batch("COMMIT")?;
        self.conn.execute("ATTACH DATABASE ?1 AS people", [uri])?;
        self.conn.execute_batch("BEGIN")?;
        // The state of this store first: what it refers to is in the other one already.
        Ok(self.conn.query_row("SELECT count(*) FROM main.sqlite_schema", [], |_| Ok(()))?)
    }

    /// Copies the state to a new file at `to`, runs `renewal` there, and makes it one of `group`. `progress` gets the pages
    /// that are done and all pages.
    ///
    /// # Errors
    /// When the source cannot be read or the target cannot be written.
    pub fn copy_to(
        &self,
        to: &Path,
        renewal: &[&str],
        group: &str,
        mut progress: impl FnMut(i32, i32),
    ) -> Result<(), Error> {
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
        schema::run(&mut copy, renewal)?;
        copy.close().map_err(|(_, error)| error)?;
        let sync = || File::options().write(true).open(to)?.sync_all();
        sync().map_err(|source| Error::File { path: to.to_owned(), source })
    }
}

/// The first column of the first rows.
fn texts(conn: &Connection, query: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare(query)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.take(FINDINGS).collect()
}

/// A shared lock, which other snapshots may hold too. None while a process has the store open.
fn keep_others_out(path: &Path) -> io::Result<Option<File>> {
    let lock = match File::open(beside(path, ".lock")) {
        Ok(lock) => lock,
        // A store that was copied without its lock, perhaps on a filesystem that cannot be written to.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return File::open(path).map(Some),
        Err(error) => return Err(error),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(format!("file:{}?immutable=1", escaped(path)), flags)?;
    row_sum::register(&conn)?;
    Ok(conn)
}

/// A path as a part of a URI.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}
