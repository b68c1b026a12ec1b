//! The writer thread. It runs the queued jobs in one transaction and completes them when the transaction is on disk (group commit). Jobs
//! come from [`Database`](crate::Database).

use std::{
    fs::File,
    mem,
    os::unix::fs::MetadataExt,
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use rusqlite::{Connection, config::DbConfig, ffi};

use crate::{
    error::is_fatal,
    hooks,
    job::{Job, Verdict, execute},
};

/// The maximum number of jobs in one transaction.
const BATCH: usize = 256;

/// The maximum time for which a transaction accepts jobs. It does not wait for jobs that are not queued yet.
const BATCH_TIME: Duration = Duration::from_millis(5);

/// The log is written back when it has at least this number of pages that are not in the database (4 MiB at 4 KiB per page).
const CHECKPOINT_PAGES: i64 = 1_000;

/// The state of the writer thread.
pub struct Writer {
    /// The only connection that writes.
    pub conn: Connection,
    /// The queued jobs.
    pub queue: Receiver<Box<dyn Job>>,
    /// The name of the store in metrics and in the log.
    pub store: Arc<str>,
    /// The database file, for its link count. Dropped after the connection, because `close` drops all locks of the process on a file.
    pub file: File,
}

/// The writer must end: no later commit can be trusted.
struct Stop;

impl Writer {
    /// Runs jobs until every sender of the queue is dropped. Ends earlier, which is reported as a failure, when an fsync has failed.
    pub fn run(mut self) {
        let report = hooks::ReportOnDrop;
        while let Ok(first) = self.queue.recv() {
            hooks::fault(" between");
            hooks::fault("");
            if self.batch(first).and_then(|()| self.checkpoint()).is_err() {
                // The log is left for the next start, when the disk may be trusted again.
                let _ = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
                return;
            }
        }
        // The last connection writes the log back and removes it.
        if let Err((_, error)) = self.conn.close() {
            tracing::warn!(store = &*self.store, %error, "the store is not closed; the next start reads its log");
        }
        mem::forget(report);
    }

    /// Runs one transaction with the queued jobs and completes them.
    fn batch(&mut self, first: Box<dyn Job>) -> Result<(), Stop> {
        if let Err(error) = execute(&self.conn, "BEGIN IMMEDIATE") {
            return self.fail(vec![first], error);
        }
        let jobs = self.fill(first);
        metrics::histogram!("godzilla_store_batch_jobs", "store" => self.store.clone())
            .record(jobs.len() as f64);
        if self.conn.is_autocommit() {
            let cause = jobs.iter().rev().find_map(|job| job.failure()).unwrap_or_default();
            let abort = ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK);
            return self.fail(jobs, rusqlite::Error::SqliteFailure(abort, Some(cause)));
        }
        let began = Instant::now();
        if let Err(error) = execute(&self.conn, "COMMIT") {
            return self.fail(jobs, error);
        }
        metrics::histogram!("godzilla_store_commit_seconds", "store" => self.store.clone())
            .record(began.elapsed().as_secs_f64());
        // A commit into a removed file succeeds, but its data is lost when the process ends.
        let is_gone = self.file.metadata().is_ok_and(|about| about.nlink() == 0);
        let verdict = if is_gone { Verdict::Gone } else { Verdict::Committed };
        jobs.into_iter().for_each(|job| job.complete(&verdict));
        Ok(())
    }

    /// Runs the first job and the jobs queued after it, until the transaction is full, has taken [`BATCH_TIME`], or is rolled back.
    fn fill(&self, first: Box<dyn Job>) -> Vec<Box<dyn Job>> {
        let began = Instant::now();
        let mut jobs = Vec::new();
        let mut next = Some(first);
        while let Some(mut job) = next {
            job.run(&self.conn);
            jobs.push(job);
            let is_open = !self.conn.is_autocommit();
            let has_room = jobs.len() < BATCH && began.elapsed() < BATCH_TIME;
            next = if is_open && has_room { self.queue.try_recv().ok() } else { None };
        }
        jobs
    }

    /// Rolls back the transaction and completes its jobs with the error.
    fn fail(&self, jobs: Vec<Box<dyn Job>>, error: rusqlite::Error) -> Result<(), Stop> {
        if !self.conn.is_autocommit()
            && let Err(error) = execute(&self.conn, "ROLLBACK")
        {
            tracing::error!(store = &*self.store, %error, "a transaction is not rolled back; the next one is refused");
        }
        metrics::counter!("godzilla_store_failed_commits_total", "store" => self.store.clone()).increment(1);
        tracing::error!(store = &*self.store, %error, jobs = jobs.len(), "a transaction failed");
        let outcome = if is_fatal(&error) { Err(Stop) } else { Ok(()) };
        let verdict = Verdict::Lost(Arc::new(error));
        jobs.into_iter().for_each(|job| job.complete(&verdict));
        outcome
    }

    /// Writes the log back into the file when it has grown. Runs after the jobs are completed, and does not block readers.
    fn checkpoint(&self) -> Result<(), Stop> {
        let log = |sql: &str| -> rusqlite::Result<(i64, i64)> {
            let mut statement = self.conn.prepare_cached(sql)?;
            statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
        };
        let written_back = log("PRAGMA wal_checkpoint(NOOP)").and_then(|(pages, done)| {
            metrics::gauge!("godzilla_store_log_pages", "store" => self.store.clone()).set(pages as f64);
            match pages - done >= CHECKPOINT_PAGES {
                true => log("PRAGMA wal_checkpoint(PASSIVE)").map(drop),
                false => Ok(()),
            }
        });
        let Err(error) = written_back else { return Ok(()) };
        tracing::error!(store = &*self.store, %error, "the log is not written back to the database; it grows until that succeeds");
        if is_fatal(&error) { Err(Stop) } else { Ok(()) }
    }
}
