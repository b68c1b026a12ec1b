//! Checkpoints of the writer: writes the log back into the database while the store is open and when it is closed. Called by the writer
//! thread.

use rusqlite::config::DbConfig;

use crate::{
    lock_holders,
    refusals::{is_lock, locked},
    state,
    writer::Writer,
};

/// A checkpoint runs when the log has at least this number of pages that are not written back (4 MiB at 4 KiB per page).
const CHECKPOINT_PAGES: u32 = 1_000;

/// The number of pages in the log above which a warning is logged (64 MiB at 4 KiB per page). A long read prevents the log from being
/// reused.
const WARN_PAGES: u32 = 16_384;

/// The length of the write-ahead log.
struct Log {
    /// The number of pages in the log.
    pages: u32,
    /// The number of pages that are not yet written back into the file.
    waiting: u32,
}

impl Writer {
    /// Writes the log back into the file when it has grown. Runs after the jobs are completed, and does not block readers.
    pub fn checkpoint(&mut self) {
        let Ok(log) = self.log("PRAGMA wal_checkpoint(NOOP)") else { return };
        metrics::gauge!("godzilla_store_log_pages", "store" => self.store.clone()).set(f64::from(log.pages));
        let is_long = log.pages > WARN_PAGES;
        if is_long && !self.has_warned {
            let pages = log.pages;
            match lock_holders::readers(&self.path) {
                Some(processes) => tracing::warn!(
                    store = &*self.store,
                    pages,
                    processes,
                    "a long read of another program lets the log grow: end its transaction, or the program"
                ),
                None => tracing::warn!(store = &*self.store, pages, "a long read lets the log grow"),
            }
        }
        self.has_warned = is_long;
        if log.waiting < CHECKPOINT_PAGES {
            return;
        }
        if let Err(error) = self.log("PRAGMA wal_checkpoint(PASSIVE)") {
            self.record_failures([&error].into_iter(), None);
            let stopped = self.condition.stopped();
            tracing::error!(store = &*self.store, %error, ?stopped, "the log cannot be written back to the database; it grows until a checkpoint succeeds");
        }
        self.watch.measure();
    }

    /// Runs the checkpoint statement `sql` and returns the length of the log.
    fn log(&self, sql: &str) -> rusqlite::Result<Log> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let (all, done): (i64, i64) = statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
        let pages = |count: i64| u32::try_from(count).unwrap_or(0);
        Ok(Log { pages: pages(all), waiting: pages(all - done) })
    }

    /// Writes the whole log back and empties it.
    fn empty_log(&self) -> rusqlite::Result<()> {
        let mut statement = self.conn.prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")?;
        match statement.query_row([], |row| row.get::<_, i64>(0))? {
            0 => Ok(()),
            _ => {
                let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                Err(rusqlite::Error::SqliteFailure(busy, Some("another process reads the store".to_owned())))
            }
        }
    }

    /// Empties the log, closes the file and releases the lock, in this order.
    pub fn finish(self) {
        let last = match self.condition.stopped() {
            // The log is left for the next start, when the disk may be trusted again.
            Some(_) => Ok(()),
            None => state::close(&self.conn),
        };
        let is_closed = self.condition.stopped().is_none() && last.is_ok();
        let empty = || {
            self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
            self.empty_log()
        };
        let last = if is_closed { empty() } else { last };
        if let Err(error) = last {
            let cause = is_lock(&error).then(|| locked(&self.path));
            tracing::warn!(
                store = &*self.store,
                %error,
                cause,
                "the log is not written back; it stays beside the database, and the next start reads it"
            );
        }
        if let Err((_, error)) = self.conn.close() {
            tracing::warn!(store = &*self.store, %error, "the database file cannot be closed; committed data is not affected");
        }
        drop(self.database);
        if is_closed {
            self.counter.end();
        }
    }
}
