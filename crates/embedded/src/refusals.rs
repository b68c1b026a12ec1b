//! Transactions that SQLite refuses for a cause that can end without a restart, such as a lock of another program. Recorded by the writer,
//! read for `/readyz`.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::ErrorCode;

use crate::{file, lock_holders, shape};

/// The time for which transactions are refused before it is reported. Programs may hold a lock for a moment.
const REPORT_AFTER: Duration = file::LOCK_WAIT;

/// The refusals of one store since the last transaction that succeeded.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Option<Refusal>>);

#[derive(Debug)]
struct Refusal {
    since: Instant,
    /// A phrase that follows the name of the store.
    cause: String,
    is_lock: bool,
    is_logged: bool,
}

impl Refusals {
    /// Records a transaction that was tried at `began` and refused. It is logged once, after [`REPORT_AFTER`].
    pub fn refused(&self, error: &rusqlite::Error, began: Instant, path: &Path, store: &str) {
        let (cause, is_lock) = (cause(error, path), is_lock(error));
        let mut state = self.state();
        let refusal = state.get_or_insert_with(|| Refusal {
            since: began,
            cause: String::new(),
            is_lock,
            is_logged: false,
        });
        refusal.is_logged &= refusal.is_lock == is_lock;
        (refusal.cause, refusal.is_lock) = (cause, is_lock);
        if !refusal.is_logged && refusal.since.elapsed() >= REPORT_AFTER {
            refusal.is_logged = true;
            let (path, cause) = (path.display(), &refusal.cause);
            tracing::error!(store, %path, %error, cause, "writes are refused until the cause has ended");
        }
    }

    /// Records a transaction that succeeded. Logs the end of the refusals when they were logged.
    pub fn succeeded(&self, store: &str) {
        if let Some(refusal) = self.state().take().filter(|refusal| refusal.is_logged) {
            let seconds = refusal.since.elapsed().as_secs_f64();
            tracing::info!(store, seconds, "the store can be written again");
        }
    }

    /// Whether the last transaction was refused.
    pub fn is_refused(&self) -> bool {
        self.state().is_some()
    }

    /// Whether only a transaction that changes something can show that the cause has ended. A lock is refused at the start of a
    /// transaction.
    pub fn needs_change(&self) -> bool {
        self.state().as_ref().is_some_and(|refusal| !refusal.is_lock)
    }

    /// Why transactions have been refused for longer than [`REPORT_AFTER`], as a phrase that follows the name of the store.
    pub fn reason(&self) -> Option<String> {
        let state = self.state();
        state
            .as_ref()
            .filter(|refusal| refusal.since.elapsed() >= REPORT_AFTER)
            .map(|refusal| refusal.cause.clone())
    }

    fn state(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another connection holds a lock that the operation needs.
pub fn is_lock(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, DatabaseLocked, FileLockingProtocolFailed};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | FileLockingProtocolFailed))
}

/// The cause of a refusal and a remedy, as a phrase that follows the name of the store.
pub fn cause(error: &rusqlite::Error, path: &Path) -> String {
    match error {
        error if is_lock(error) => format!("cannot be written: {}", locked(path)),
        error if shape::is_changed(error) => format!("cannot be written: {error}"),
        error => {
            format!("cannot be written: {error}; check the memory, the limits and the disk of the process")
        }
    }
}

/// The program that holds a lock on the store, and a remedy.
pub fn locked(path: &Path) -> String {
    let shown = path.display();
    match lock_holders::writers(path) {
        Some(processes) => {
            format!("{processes} holds a lock on {shown}; end its transaction, or the process")
        }
        None => format!(
            "another program holds a lock on {shown}; find it with `fuser -v {shown} {shown}-shm` and end its transaction, or the \
             program"
        ),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn refusals_are_reported_after_a_while_and_end_with_a_success() {
        let error = |code: i32| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let path = Path::new("/nowhere/words.sqlite3");
        let now = Instant::now();
        let before = now.checked_sub(REPORT_AFTER).expect("a longer uptime");
        // The error, a part of the reason, and whether the end shows only when something is changed.
        let cases = [
            (
                ffi::SQLITE_BUSY,
                "another program holds a lock on /nowhere/words.sqlite3; find it with `fuser",
                false,
            ),
            (ffi::SQLITE_BUSY_RECOVERY, "holds a lock", false),
            (ffi::SQLITE_PROTOCOL, "holds a lock", false),
            (ffi::SQLITE_NOMEM, "out of memory", true),
            (ffi::SQLITE_IOERR_SHMSIZE, "disk I/O error", true),
            (ffi::SQLITE_CANTOPEN, "unable to open", true),
            (ffi::SQLITE_READONLY, "readonly", true),
        ];
        for (code, part, needs_change) in cases {
            let refusals = Refusals::default();
            refusals.refused(&error(code), now, path, "words");
            assert_eq!(refusals.reason(), None, "{code}: just refused");
            refusals.succeeded("words");
            refusals.refused(&error(code), before, path, "words");
            refusals.refused(&error(code), now, path, "words");
            let reason = refusals.reason().unwrap_or_default();
            assert!(reason.contains(part), "{code}: {reason}");
            assert_eq!(refusals.needs_change(), needs_change, "{code}");
            refusals.succeeded("words");
            assert_eq!((refusals.reason(), refusals.is_refused()), (None, false), "{code}");
        }
    }
}
