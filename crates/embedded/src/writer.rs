//! The one thread that writes: it takes what is queued, does it in one transaction, and answers when that is on disk
//! (group commit). Fed by [`Database`](crate::Database); runs [`Job`]s.

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
    note::Tally,
    shortage, state,
    watch::Watch,
};

/// Jobs in one transaction.
const BATCH: usize = 256;

/// How long a transaction takes jobs in. It never waits for one that is not there.
const BATCH_TIME: Duration = Duration::from_millis(5);

/// Pages that wait in the log from which on they are written back into the file (4 MiB at 4 KiB).
const CHECKPOINT_PAGES: u32 = 1_000;

/// Pages in the log that mean somebody reads for so long that the log cannot be reused (64 MiB at 4 KiB).
const ALARM_PAGES: u32 = 16_384;

/// The writer's thread.
pub struct Writer {
    /// The only connection that writes.
    pub conn: Connection,
    /// What is to be done.
    pub queue: Receiver<Box<dyn Job>>,
    /// What keeps it from writing, for everybody to see.
    pub condition: Arc<Condition>,
    /// Whether the files are still at their paths.
    pub watch: Arc<Watch>,
    /// The file.
    pub path: PathBuf,
    /// The store's name in metrics.
    pub store: Arc<str>,
    /// Whether the log was too long when it was last looked at.
    pub alarmed: bool,
    /// What others may know of this thread.
    pub health: Arc<Health>,
    /// Keeps other processes out until the last job is done, and counts the transactions.
    pub tally: Tally,
}

/// How long the write-ahead log is.
struct Log {
    /// Pages in it.
    pages: u32,
    /// Those of them that are not yet written back into the file.
    waiting: u32,
}

impl Writer {
    /// Works until every sender of the queue is gone.
    pub fn run(mut self) {
        let health = self.health.clone();
        let alive = health.alive();
        while let Ok(first) = self.queue.recv() {
            hooks::fault_between();
            let step = health.begin();
            health.taken();
            hooks::fault();
            if let Some(stop) = self.condition.stopped() {
                first.settle(&Verdict::Refused(stop));
            } else {
                self.batch(first);
                self.checkpoint();
            }
            drop(step);
            health.rest();
        }
        self.finish();
        alive.finish();
    }

    /// One transaction: begun, filled with what is queued, decided, answered.
    fn batch(&mut self, first: Box<dyn Job>) {
        if !self.watch.look(&self.condition, &self.store) {
            return first.settle(&Verdict::Refused(Stop::Gone));
        }
        if let Err(error) = execute(&self.conn, "BEGIN IMMEDIATE") {
            return self.lose(vec![first], error);
        }
        self.watch.release_log();
        let changes = self.conn.total_changes();
        let jobs = self.fill(first);
        metrics::histogram!("godzilla_store_batch_jobs", "store" => self.store.clone())
            .record(jobs.len() as f64);
        if self.conn.is_autocommit() {
            let error = given_up(&jobs);
            return self.lose(jobs, error);
        }
        let began = Instant::now();
        let has_changed = self.conn.total_changes() != changes;
        let counted = if has_changed { self.tally.count(&self.conn) } else { Ok(()) };
        if let Err(error) = counted.and_then(|()| execute(&self.conn, "COMMIT")) {
            return self.lose(jobs, error);
        }
        if has_changed {
            self.tally.committed();
        }
        let took = began.elapsed().as_secs_f64();
        metrics::histogram!("godzilla_store_commit_seconds", "store" => self.store.clone()).record(took);
        // A commit into a file that was deleted succeeds, and the data is gone when the process ends. So the files are looked
        // at again before anybody gets an answer.
        let verdict = match self.watch.look(&self.condition, &self.store) {
            true => Verdict::Committed,
            false => Verdict::Refused(Stop::Gone),
        };
        self.watch.measure();
        if let Some(shortage) = jobs.iter().find_map(|job| shortage::of(job.failure()?, &self.path)) {
            self.condition.set_shortage(Some(shortage));
        }
        jobs.into_iter().for_each(|job| job.settle(&verdict));
    }

    /// Runs the first job and those queued behind it, until the transaction is full, old, or gone.
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

    /// Undoes the transaction and answers its jobs. Stops for good if the disk may no longer be trusted.
    fn lose(&mut self, jobs: Vec<Box<dyn Job>>, error: rusqlite::Error) {
        self.roll_back();
        self.watch.measure();
        self.judge(jobs.iter().filter_map(|job| job.failure()).chain([&error]));
        let stopped = self.condition.stopped();
        metrics::counter!("godzilla_store_failed_commits_total", "store" => self.store.clone()).increment(1);
        tracing::error!(store = &*self.store, %error, jobs = jobs.len(), ?stopped, "a transaction was lost");
        let verdict = Verdict::Lost(Arc::new(error));
        jobs.into_iter().for_each(|job| job.settle(&verdict));
    }

    /// Records what failures mean for the writes to come: the disk is full for now, or broken for good.
    fn judge<'a>(&self, failures: impl Iterator<Item = &'a rusqlite::Error>) {
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

    /// Writes the log back into the file when it has grown, after the answers are out. Readers are not disturbed.
    fn checkpoint(&mut self) {
        let Ok(log) = self.log("PRAGMA wal_checkpoint(NOOP)") else { return };
        metrics::gauge!("godzilla_store_log_pages", "store" => self.store.clone()).set(f64::from(log.pages));
        let alarm = log.pages > ALARM_PAGES;
        if alarm && !self.alarmed {
            tracing::warn!(
                store = &*self.store,
                pages = log.pages,
                "a long read keeps the log from being reused"
            );
        }
        self.alarmed = alarm;
        if log.waiting < CHECKPOINT_PAGES {
            return;
        }
        if let Err(error) = self.log("PRAGMA wal_checkpoint(PASSIVE)") {
            self.judge([&error].into_iter());
            let stopped = self.condition.stopped();
            tracing::error!(store = &*self.store, %error, ?stopped, "a checkpoint failed");
        }
        self.watch.measure();
    }

    /// Runs a checkpoint of some kind and answers what the log holds.
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

    /// Empties the log, closes the file and lets others at it, in this order.
    fn finish(self) {
        let last = match self.condition.stopped() {
            // What the log holds is left for the next start, on a disk that may be trusted again.
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
            tracing::warn!(store = &*self.store, %error, "the file did not close");
        }
        if is_closed {
            self.tally.end();
        }
    }
}

/// The transaction ended when one of its jobs failed; the others are answered with the reason of that one.
fn given_up(jobs: &[Box<dyn Job>]) -> rusqlite::Error {
    let cause = jobs.iter().rev().find_map(|job| job.failure());
    let cause = cause.map_or_else(|| "a job ended it".into(), ToString::to_string);
    let abort = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK);
    rusqlite::Error::SqliteFailure(abort, Some(format!("the transaction was given up: {cause}")))
}
