//! The errors of a store. Returned by all modules of this crate, handled by the backends that use it.

use std::{io, path::PathBuf, sync::Arc};

use crate::{condition::Stop, row_sum, shape};

/// Why a store was not opened, or a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue is full; nothing was done. A retry may succeed.
    #[error("the store has too much to do")]
    Busy,
    /// No result within [`Options::deadline`](crate::Options::deadline). Whether the job is stored is unknown.
    #[error("the store did not answer in time")]
    Timeout,
    /// The store is closing or its thread has ended; nothing was done.
    #[error("the store is closed")]
    Closed,
    /// An earlier write failed with an I/O error, so no later write can be trusted; nothing was done. A restart recovers.
    #[error("the store stopped writing after an I/O error")]
    Broken,
    /// A file of the store is no longer at its path, or another file is at the path. Writes would be lost when the process ends. Whether
    /// the job is stored is unknown. Restore the directory and restart.
    #[error("the files of the store were removed or replaced while it was open")]
    Gone,
    /// The transaction that contained the job was not committed, so the job is not stored. After an I/O error that is unknown.
    #[error("the commit failed: {0}")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// The job panicked and was rolled back, without the other jobs of its transaction.
    #[error("a job of the store panicked")]
    Panicked,
    /// The job failed and was rolled back, without the other jobs of its transaction.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// At start: another process, or another handle of this one, has the file open.
    #[error("{path} is in use by another process", path = .0.display())]
    Locked(PathBuf),
    /// At start: the file was written by a newer version of this program.
    #[error("{path} has schema {found}, this program supports {supported}: use a newer version", path = .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema version of the file.
        found: u32,
        /// The schema version of this program: the number of its migrations.
        supported: u32,
    },
    /// At start: committed data is lost.
    #[error("{path} has lost committed data: {what}. Restore a backup; or run `godzilla check`, and \
             `godzilla check --accept-loss` to go on with what is left", path = .path.display())]
    Lost {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// At start: the file is damaged so that it cannot be used.
    #[error("{path} is damaged: {what}. Restore a backup", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        what: String,
    },
    /// At start: another program has dropped a table or an index of the file, or added a trigger.
    #[error("cannot open {path}: {what}", path = .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What was changed, and the remedy.
        what: String,
    },
    /// At start: the log belongs to another database file.
    #[error("{path} has a log (-wal) of another database beside it, because one of the two was replaced. Restore a backup into an \
             empty directory", path = .path.display())]
    ForeignLog {
        /// The file.
        path: PathBuf,
    },
    /// At start: the system refuses an operation that the store needs, for a cause that an operator can remove.
    #[error("cannot open {path}: {what}", path = .path.display())]
    Refused {
        /// The file or directory.
        path: PathBuf,
        /// The cause and the remedy.
        what: String,
    },
    /// At start: a migration failed; the file is unchanged by it.
    #[error("migration {number} of {path} failed: {source}", path = .path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// The number of the migration, from 1.
        number: u32,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
    /// At start: this SQLite can corrupt a WAL file (fixed in 3.51.3).
    #[error("SQLite {0} is too old, 3.51.3 is needed")]
    OldLibrary(&'static str),
    /// At start: the file is on a network filesystem, which does not provide the shared memory that WAL needs.
    #[error("{path} is on a network filesystem, which cannot hold a store", path = .0.display())]
    Network(PathBuf),
    /// At start: the directory is writable by every user, so any user could replace the file.
    #[error("{path} can be written by every user of this machine (chmod o-w it)", path = .0.display())]
    Exposed(PathBuf),
    /// At start: the file or its directory cannot be used.
    #[error("cannot open {path}: {source}", path = .path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// At start: SQLite refuses the file.
    #[error("cannot open {path}: {source}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Broken => Self::Broken,
            Stop::Gone => Self::Gone,
        }
    }
}

impl Error {
    /// Whether a read found a row with a wrong checksum. The rest of the store can be read.
    pub fn is_damaged_row(&self) -> bool {
        matches!(self, Self::Sqlite(error) if row_sum::is_damaged_row(error))
    }

    /// Whether a read found damaged content.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Sqlite(error) if is_damage(error))
    }

    /// The HTTP status of a request that failed with this error: 503 when a retry may succeed, 500 for a programming error.
    pub fn status(&self) -> u16 {
        match self {
            Self::Panicked => 500,
            Self::Sqlite(error) if !is_environmental(error) => 500,
            _ => 503,
        }
    }
}

/// Whether a failure comes from the environment (a full disk, I/O, a lock) and not from the statement.
pub(crate) fn is_environmental(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed, OutOfMemory, ReadOnly,
        SystemIoFailure,
    };
    let code = error.sqlite_error_code();
    shape::is_changed(error)
        || matches!(code, Some(DatabaseBusy | DatabaseLocked | FileLockingProtocolFailed | CannotOpen))
        || matches!(code, Some(DiskFull | OutOfMemory | ReadOnly | SystemIoFailure))
}

/// Whether the content of the file is damaged.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// Whether no later commit of this process can be trusted after this failure. The kernel may drop pages that it failed to write, and
/// then report them as written. A full disk is not fatal. Neither is a failure of the shared index, which is rebuilt from the log, nor a
/// damaged row, which concerns only the jobs that read it.
pub(crate) fn is_fatal(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, SystemIoFailure};
    use rusqlite::ffi::{SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE};
    let Some(failure) = error.sqlite_error().filter(|_| !row_sum::is_damaged_row(error)) else {
        return false;
    };
    let index = [SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE];
    match failure.code {
        SystemIoFailure => !index.contains(&failure.extended_code),
        DatabaseCorrupt | NotADatabase => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn io_errors_are_fatal_and_a_full_disk_is_not() {
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR, ffi::SQLITE_CORRUPT]
        {
            assert!(is_fatal(&failure(code)), "{code}");
        }
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_BUSY, ffi::SQLITE_CONSTRAINT, ffi::SQLITE_IOERR_SHMSIZE] {
            assert!(!is_fatal(&failure(code)), "{code}");
        }
        assert!(!is_fatal(&row_sum::damaged_row("a row")));
    }

    #[test]
    fn a_full_disk_is_503_and_a_wrong_statement_is_500() {
        assert_eq!(Error::Sqlite(failure(ffi::SQLITE_FULL)).status(), 503);
        assert_eq!(Error::Sqlite(failure(ffi::SQLITE_CONSTRAINT)).status(), 500);
        assert_eq!(Error::Busy.status(), 503);
    }
}
