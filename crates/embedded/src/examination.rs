//! Finds what a start would refuse in the file of a store. Changes nothing: no file is created, no log is written back, and no lock is held
//! while the file is read, so a server can start and run meanwhile. For the doctor.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use rusqlite::Connection;

use crate::{
    Error, causes, completeness,
    damage::{self, Finding},
    error::is_damage,
    file::{self, beside},
    lock_record::LockRecord,
    state,
};

/// The first bytes of a database file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The bytes of the header of a database file.
const HEADER: usize = 100;

/// The file of a store that a start would accept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// The group of files that the store belongs to. `None` also when only the log contains it.
    pub group: Option<String>,
}

/// Examines the file at `path`, which may have at most `supported` migrations. An absent or empty file without a log is accepted: a start
/// creates it. The log of a store in use is not examined, because it changes.
///
/// # Errors
/// The error of a start with this file. Other damage than that of the file's length, header and log is found by `check`.
pub fn examine(path: &Path, supported: usize) -> Result<Examined, Error> {
    file::refuse_irregular(path)?;
    refuse_unusable(path)?;
    let at = |source| Error::File { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(about) if about.len() > 0 || !damage::has_no_log(path) => {}
        Ok(_) => return Ok(Examined::default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Examined::default()),
        Err(error) => return Err(causes::with_cause(path, at(error))),
    }
    let was_in_use = is_in_use(path);
    let outcome = read(path, supported, was_in_use);
    // A server that runs writes the file while it is read here.
    let is_in_use = was_in_use || is_in_use(path);
    match outcome {
        Err(Error::Damaged { .. } | Error::Lost { .. } | Error::ForeignLog { .. } | Error::Open { .. })
            if is_in_use =>
        {
            Ok(Examined::default())
        }
        outcome => outcome,
    }
}

/// Whether a process has the store open.
fn is_in_use(path: &Path) -> bool {
    File::open(beside(path, ".lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Refuses files that this user cannot read and write. Opening a file for writing does not change it.
fn refuse_unusable(path: &Path) -> Result<(), Error> {
    for file in ["", "-wal", "-shm", ".lock"].map(|suffix| beside(path, suffix)) {
        match File::options().read(true).write(true).open(&file) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(causes::with_cause(path, Error::File { path: file, source }));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read(path: &Path, supported: usize, is_in_use: bool) -> Result<Examined, Error> {
    let open = |source: rusqlite::Error| match is_damage(&source) {
        true => Error::Damaged { path: path.to_owned(), what: source.to_string() },
        false => Error::Open { path: path.to_owned(), source },
    };
    let has_no_log = damage::has_no_log(path);
    refuse_other_content(path, has_no_log)?;
    if !is_in_use {
        refuse_lost_log(path)?;
    }
    let conn = file::immutable(path).map_err(open)?;
    let found: u32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(open)?;
    let supported = u32::try_from(supported).unwrap_or(u32::MAX);
    if found > supported {
        return Err(Error::Newer { path: path.to_owned(), found, supported });
    }
    if has_no_log && !is_in_use {
        refuse_lost_transactions(path, &conn, open)?;
    }
    Ok(Examined { group: state::group(&conn).map_err(open)? })
}

/// Refuses a file that is not a database, and one that is shorter than its header states. The end of a file with a log can be in the log.
fn refuse_other_content(path: &Path, has_no_log: bool) -> Result<(), Error> {
    let damaged = |what: String| Err(Error::Damaged { path: path.to_owned(), what });
    let at = |source| Error::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(at)?;
    let length = file.metadata().map_err(at)?.len();
    let mut header = [0; HEADER];
    if file.read_exact_at(&mut header, 0).is_err() {
        return match has_no_log {
            true => damaged(format!("it has {length} bytes and is not a SQLite database")),
            false => Ok(()),
        };
    }
    if header[..MAGIC.len()] != MAGIC[..] {
        return damaged("it is not a SQLite database".to_owned());
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    // Versions of SQLite before 3.7 do not update the number of pages.
    let is_counted = number(24) == number(92);
    let expected = u64::from(number(28)) * page;
    match has_no_log && is_counted && length < expected {
        true => damaged(format!("it is truncated: it has {length} bytes of {expected}")),
        false => Ok(()),
    }
}

/// Refuses a log that has lost transactions, or that belongs to another database.
fn refuse_lost_log(path: &Path) -> Result<(), Error> {
    let record = LockRecord::read(path);
    let found = damage::examine(path, record.same_boot);
    let lost = match found.map_err(|source| Error::File { path: path.to_owned(), source })? {
        Finding::Lost(what) => Some(what),
        Finding::Emptied(what) => record.opening.is_none().then_some(what),
        Finding::Whole | Finding::Torn(_) => None,
    };
    if let Some(what) = lost {
        return Err(Error::Lost { path: path.to_owned(), what });
    }
    let file = (!damage::has_no_log(path)).then(|| state::of_file(path)).flatten();
    match completeness::is_foreign(record.opening.as_ref(), file.as_ref()) {
        true => Err(Error::ForeignLog { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// Refuses a file without a log that lacks transactions which the lock file counts.
fn refuse_lost_transactions(
    path: &Path,
    conn: &Connection,
    open: impl Fn(rusqlite::Error) -> Error,
) -> Result<(), Error> {
    let found = state::read(conn).map_err(open)?;
    match completeness::missing_without_log(&LockRecord::read(path), &found) {
        Some(what) => Err(Error::Lost { path: path.to_owned(), what }),
        None => Ok(()),
    }
}
