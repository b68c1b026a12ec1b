//! The writer thread. It runs the queued jobs in one transaction and completes them when the transaction is on disk (group commit). Jobs
//! come from [`Database`](crate::Database).

use std::{
    path::PathBuf,
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use rusqlite::{Connection, config::DbConfig};

use crate::{
    condition::{Condition, Stop},
    error::is_fatal,
    health::Health,
    hooks,
    job::{Job, Verdict, execute},
    lock_record::CommitCounter,
    shortage, state,
    watch::Watch,
};

/// The maximum number of jobs in one transaction.
const BATCH: usize = 256;

/// The maximum time for which a transaction accepts jobs. It does not wait for jobs that are not queued yet.
const BATCH_TIME: Duration = Duration::from_millis(5);

/// The number of pages in the log, not yet written back, from which on a checkpoint runs (4 MiB at 4 KiB per page).
const CHECKPOINT_PAGES: u32 = 1_000;

/// The number of pages in the log above which a warning is logged (64 MiB at 4 KiB per page). A long read prevents the log from being
/// reused.
const WARN_PAGES: u32 = 16_384;

/// The state of the writer thread.
pub struct Writer {
    /// The only connection that writes.
    pub conn: Connection,
    /// The queued jobs.
    pub queue: Receiver<Box<dyn Job>>,
    /// The faults of the store, shared with the handles.
    pub condition: Arc<Condition>,
    /// The check that the files are at their paths.
    pub watch: Arc<Watch>,
    /// The path of the database file.
    pub path: PathBuf,
    /// The name of the store in metrics.
    pub store: Arc<str>,
    /// Whether the log was too long at the last check.
    pub has_warned: bool,
    /// The health of this thread, shared with the handles.
    pub health: Arc<Health>,
    /// Holds the lock until the last job is done, and counts the transactions.
    pub counter: CommitCounter,
}

/// The length of the write-ahead log.
struct Log {
    /// The number of pages in the log.
    pages: u32,
    /// The number of pages that are not yet written back into the file.
    waiting: u32,
}

impl Writer {
    /// Runs jobs until every sender of the queue is dropped.
    pub fn run(mut self) {
        let health = self.health.clone();
        let guard = health.guard();
        while let Ok(first) = self.queue.recv() {
            hooks::fault_between();
            let batch = health.begin();
            health.taken();
            hooks::fault();
            if let Some(stop) = self.condition.stopped() {
                first.complete(&Verdict::Refused(stop));
            } else {
                self.batch(first);
                self.checkpoint();
            }
            drop(batch);
            health.end();
        }
        self.finish();
        guard.finish();
    }

    /// Runs one transaction with the queued jobs and completes them.
    fn batch(&mut self, first: Box<dyn Job>) {
        if !self.watch.check(&self.condition, &self.store) {
            return first.complete(&Verdict::Refused(Stop::Gone));
        }
        if let Err(error) = execute(&self.conn, "BEGIN IMMEDIATE") {
            return self.fail(vec![first], error);
        }
        self.watch.release_log();
        let changes = self.conn.total_changes();
        let jobs = self.fill(first);
        metrics::histogram!("godzilla_store_batch_jobs", "store" => self.store.clone())
            .record(jobs.len() as f64);
        if self.conn.is_autocommit() {
            let error = abort_cause(&jobs);
            return self.fail(jobs, error);
        }
        let began = Instant::now();
        let has_changed = self.conn.total_changes() != changes;
        let counted = if has_changed { self.counter.count(&self.conn) } else { Ok(()) };
        if let Err(error) = counted.and_then(|()| execute(&self.conn, "COMMIT")) {
            return self.fail(jobs, error);
        }
        if has_changed {
            self.counter.committed();
        }
        let took = began.elapsed().as_secs_f64();
        metrics::histogram!("godzilla_store_commit_seconds", "store" => self.store.clone()).record(took);
        // A commit into a deleted file succeeds, but its data is lost when the process ends. So the files are checked again before the
        // jobs are acknowledged.
        let verdict = match self.watch.check(&self.condition, &self.store) {
            true => Verdict::Committed,
            false => Verdict::Refused(Stop::Gone),
        };
        self.watch.measure();
        if let Some(shortage) = jobs.iter().find_map(|job| shortage::of(job.failure()?, &self.path)) {
            self.condition.set_shortage(Some(shortage));
        }
        jobs.into_iter().for_each(|job| job.complete(&verdict));
    }

    /// Runs the first job and the jobs queued after it, until the transaction is full, has taken [`BATCH_TIME`], or is rolled back.
    fn fill(&mut self, first: Box<dyn Job>) -> Vec<Box<dyn Job>> {
        let began = Instant::now();
        let mut jobs = Vec::new();
        let mut next = Some(first);
        while let Some(mut job) = next {
            job.run(&self.conn);
            let failed = job.failure().is_some_and(is_fatal);
            jobs.push(job);
            if failed {
                self.roll_back();
            }
            let open = !self.conn.is_autocommit();
            let room = jobs.len() < BATCH && began.elapsed() < BATCH_TIME;
            next = if open && room { self.queue.try_recv().ok() } else { None };
            next.iter().for_each(|_| self.health.taken());
        }
        jobs
    }

    /// Rolls back the transaction and completes its jobs with the error. Stops the store when the disk can no longer be trusted.
    fn fail(&mut self, jobs: Vec<Box<dyn Job>>, error: rusqlite::Error) {
        self.roll_back();
        self.watch.measure();
        self.record_failures(jobs.iter().filter_map(|job| job.failure()).chain([&error]));
        let stopped = self.condition.stopped();
        metrics::counter!("godzilla_store_failed_commits_total", "store" => self.store.clone()).increment(1);
        tracing::error!(store = &*self.store, %error, jobs = jobs.len(), ?stopped, "a transaction failed");
        let verdict = Verdict::Lost(Arc::new(error));
        jobs.into_iter().for_each(|job| job.complete(&verdict));
    }

    /// Records in the condition of the store whether failures mean a shortage, which may end, or a broken disk.
    fn record_failures<'a>(&self, failures: impl Iterator<Item = &'a rusqlite::Error>) {
        let (mut lacking, mut broken) = (None, false);
        for error in failures {
            match shortage::of(error, &self.path) {
                Some(shortage) => lacking = Some(shortage),
                None => broken |= is_fatal(error),
            }
        }
        if lacking.is_some() {
            self.condition.set_shortage(lacking);
        }
        if broken {
            self.condition.stop(Stop::Broken);
        }
    }

    fn roll_back(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = execute(&self.conn, "ROLLBACK")
        {
            tracing::error!(store = &*self.store, %error, "a rollback failed");
        }
    }

    /// Writes the log back into the file when it has grown. Runs after the jobs are completed, and does not block readers.
    fn checkpoint(&mut self) {
        let Ok(log) = self.log("PRAGMA wal_checkpoint(NOOP)") else { return };
        metrics::gauge!("godzilla_store_log_pages", "store" => self.store.clone()).set(f64::from(log.pages));
        let is_long = log.pages > WARN_PAGES;
        if is_long && !self.has_warned {
            tracing::warn!(
                store = &*self.store,
                pages = log.pages,
                "a long read prevents the log from being reused"
            );
        }
        self.has_warned = is_long;
        if log.waiting < CHECKPOINT_PAGES {
            return;
        }
        if let Err(error) = self.log("PRAGMA wal_checkpoint(PASSIVE)") {
            self.record_failures([&error].into_iter());
            let stopped = self.condition.stopped();
            tracing::error!(store = &*self.store, %error, ?stopped, "a checkpoint failed");
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
    fn finish(self) {
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
            tracing::warn!(store = &*self.store, %error, "the last checkpoint failed");
        }
        if let Err((_, error)) = self.conn.close() {
            tracing::warn!(store = &*self.store, %error, "closing the file failed");
        }
        if is_closed {
            self.counter.end();
        }
    }
}

/// The error of a transaction that ended when one of its jobs failed. The other jobs get the error of that job.
fn abort_cause(jobs: &[Box<dyn Job>]) -> rusqlite::Error {
    let cause = jobs.iter().rev().find_map(|job| job.failure());
    let cause = cause.map_or_else(|| "a job ended it".into(), ToString::to_string);
    let abort = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK);
    rusqlite::Error::SqliteFailure(abort, Some(format!("the transaction was rolled back: {cause}")))
}
