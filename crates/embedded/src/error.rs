//! The errors of a store. Returned by all modules of this crate, handled by the backends that use it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why a store was not opened, or a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue is full; nothing was done. A retry may succeed.
    #[error("the store has too much to do")]
    Busy,
    /// No result within [`Options::deadline`](crate::Options::deadline). Whether the job is stored is unknown.
    #[error("the store did not answer in time")]
    Timeout,
    /// The store is closing or its writer has ended. Whether a job that was queued is stored is unknown.
    #[error("the store is closed")]
    Closed,
    /// The file was removed while the store was open, so the job is lost when the process ends.
    #[error("the file of the store was removed while it was open")]
    Gone,
    /// The transaction that contained the job was not committed, so the job is not stored. After a failed fsync that is unknown.
    #[error("the commit failed: {0}")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// The job panicked and was rolled back, without the other jobs of its transaction.
    #[error("a job of the store panicked")]
    Panicked,
    /// The job failed and was rolled back, without the other jobs of its transaction.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The file or the directory cannot be used: the error of the system or of SQLite, or that another process uses it.
    #[error("cannot use {path}: {reason}", path = .path.display())]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
}

impl Error {
    /// Adds a path to an error of the system or of SQLite.
    pub(crate) fn at(path: &Path, reason: impl ToString) -> Self {
        Self::Unusable { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// Whether a failure means that no later commit of this process can be trusted: the kernel may drop pages that it failed to write, and
/// report them as written by the next fsync. After other failures, such as a full disk, a transaction is rolled back and a later one may
/// succeed.
pub(crate) fn is_fatal(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC};
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC))
}
