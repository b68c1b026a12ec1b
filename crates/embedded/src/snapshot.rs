//! One state of a store, read without disturbing the process that has it open, or while no process has. For backups and checks;
//! writes nothing into the store.

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
    Error,
    damage::{self, Finding},
    file::{self, beside, escaped},
    judge,
    note::Noted,
    row_sum,
    state::{self, State},
};

/// Pages that are copied at once (8 MiB at 4 KiB); between two of these a progress is shown.
const STEP: i32 = 2_048;

/// How long a copy waits for a moment in which another process does not checkpoint.
const PAUSE: Duration = Duration::from_millis(20);

/// A query that finds what is wrong with a store. Each row of the answer is a sentence.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The first schema version (the number of migrations) with the tables and columns of the query. Older stores pass it.
    pub since: u32,
    /// The query.
    pub sql: &'static str,
}

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
    noted: Noted,
    /// The content of the database file without its log, where a log is there and no process has the store open.
    file: Option<State>,
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
        let noted = Noted::read(path);
        let fault = match lock {
            None => None,
            Some(_) => match damage::examine(path, noted.same_boot).map_err(at)? {
                Finding::Torn(what) | Finding::Lost(what) => Some(what),
                Finding::Emptied(what) => noted.opening.is_none().then_some(what),
                Finding::Whole => None,
            },
        };
        let has_log = lock.is_some() && !damage::has_no_log(path);
        let file = has_log.then(|| state::of_file(path)).flatten();
        let fault = fault.or_else(|| {
            judge::is_alien(noted.opening.as_ref(), file.as_ref())
                .then(|| Error::Alien { path: path.to_owned() }.to_string())
        });
        let conn = match lock.is_some() && (fault.is_some() || damage::has_no_log(path)) {
            // No process writes, and everything is in one file: SQLite makes no files beside it. A damaged log stays as it is.
            true => file::immutable(path),
            false => file::reading(path),
        };
        let conn = conn.map_err(open)?;
        conn.execute_batch("BEGIN").map_err(open)?;
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(open)?;
        Ok(Self { conn, path: path.to_owned(), lock, fault, noted, file })
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
        let found = state::read(&self.conn).map_err(open)?;
        Ok(match damage::has_no_log(path) {
            true => judge::without_log(&self.noted, &found),
            false => judge::with_log(&self.noted, self.file.as_ref(), &found),
        })
    }

    /// Reads everything and answers with what is wrong, in sentences: the structure, then each query of `checks`, whose rows
    /// are findings. At most 20 of each.
    ///
    /// # Errors
    /// When a query fails.
    pub fn findings(&self, checks: &[Check]) -> Result<Vec<String>, Error> {
        let integrity = format!("PRAGMA integrity_check({FINDINGS})");
        let mut findings = texts(&self.conn, &integrity)?;
        findings.retain(|finding| finding != "ok");
        for table in texts(
            &self.conn,
            "SELECT DISTINCT 'a row of ' || \"table\" || ' refers to none' FROM pragma_foreign_key_check",
        )? {
            findings.push(table);
        }
        if state::is_there(&self.conn)? {
            findings.extend(texts(&self.conn, state::CHECK)?);
        }
        findings.extend(self.findings_of(checks)?);
        Ok(findings)
    }

    /// What each query of `checks` finds.
    ///
    /// # Errors
    /// When a query fails.
    pub fn findings_of(&self, checks: &[Check]) -> Result<Vec<String>, Error> {
        let version: u32 = self.conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let mut findings = Vec::new();
        for check in checks.iter().filter(|check| check.since <= version) {
            findings.extend(texts(&self.conn, check.sql)?);
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

    /// Copies the state to a new file at `to` and makes it one of `group`. `progress` gets the pages that are done and all pages.
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
