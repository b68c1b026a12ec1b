//! The writer thread. It runs the queued jobs in one transaction and completes them when the transaction is on disk (group commit). Jobs
//! come from [`Database`](crate::Database). Writing the log back is in `checkpoint.rs`.

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::{
    condition::{Condition, Stop},
    error::{is_damage, is_environmental, is_fatal},
    file,
    health::Health,
    hooks,
    job::{Job, Verdict, execute},
    lock_record::CommitCounter,
    refusals::is_lock,
    shape::Shape,
    shortage,
    watch::Watch,
};

/// The maximum number of jobs in one transaction.
const BATCH: usize = 256;

/// The maximum number of jobs that are refused together because another program holds the write lock.
const REFUSED: usize = 1_024;

/// The time after which an idle writer tries a transaction.
const TRIAL_INTERVAL: Duration = Duration::from_secs(1);

/// The same while transactions are refused.
const REFUSED_TRIAL_INTERVAL: Duration = Duration::from_millis(250);

/// The maximum time for which a transaction accepts jobs. It does not wait for jobs that are not queued yet.
const BATCH_TIME: Duration = Duration::from_millis(5);

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
    /// Holds the lock of the database. Dropped after the connection.
    pub database: File,
    /// Holds the lock until the last job is done, and counts the transactions.
    pub counter: CommitCounter,
    /// The tables and indexes that the file must have.
    pub shape: Shape,
}

impl Writer {
    /// Runs jobs until every sender of the queue is dropped.
    pub fn run(mut self) {
        let health = self.health.clone();
        let guard = health.guard();
        loop {
            let is_refused = self.condition.refusals().is_refused();
            let interval = if is_refused { REFUSED_TRIAL_INTERVAL } else { TRIAL_INTERVAL };
            let first = match self.queue.recv_timeout(interval) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.try_writing();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
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
        let began = Instant::now();
        if let Err(error) = self.shape.begin(&self.conn) {
            let jobs = self.refused(first, &error);
            return self.fail(jobs, error, Some(began));
        }
        self.watch.release_log();
        let changes = self.conn.total_changes();
        let jobs = self.fill(first);
        metrics::histogram!("godzilla_store_batch_jobs", "store" => self.store.clone())
            .record(jobs.len() as f64);
        if self.conn.is_autocommit() {
            let error = abort_cause(&jobs);
            return self.fail(jobs, error, None);
        }
        let began = Instant::now();
        let has_changed = self.conn.total_changes() != changes;
        let counted = if has_changed { self.counter.count(&self.conn) } else { Ok(()) };
        if let Err(error) = counted.and_then(|()| execute(&self.conn, "COMMIT")) {
            return self.fail(jobs, error, Some(began));
        }
        if has_changed {
            self.counter.committed();
        }
        if has_changed || !self.condition.refusals().needs_change() {
            self.condition.refusals().succeeded(&self.store);
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
            if let Some(error) = job.failure().filter(|error| is_damage(error)) {
                tracing::error!(store = &*self.store, %error, "a write found damaged content");
                self.condition.set_damaged();
            }
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

    /// The first job and, when another connection holds the write lock, all jobs behind it. Each would wait for the same lock.
    fn refused(&self, first: Box<dyn Job>, error: &rusqlite::Error) -> Vec<Box<dyn Job>> {
        let mut jobs = vec![first];
        while is_lock(error)
            && jobs.len() < REFUSED
            && let Ok(next) = self.queue.try_recv()
        {
            self.health.taken();
            jobs.push(next);
        }
        jobs
    }

    /// Tries a transaction without a job and without waiting for a lock, and records whether it is refused.
    fn try_writing(&mut self) {
        let changes = self.condition.refusals().needs_change();
        // The lengths of the files are measured after a change, so a file that was cut before must be detected first.
        let is_intact = !changes || self.watch.check(&self.condition, &self.store);
        if self.condition.stopped().is_some() || !is_intact {
            return;
        }
        let began = Instant::now();
        let outcome = self.conn.busy_timeout(Duration::ZERO).and_then(|()| self.try_transaction(changes));
        if outcome.is_err() {
            self.roll_back();
        }
        if changes {
            self.watch.measure();
        }
        let waits = self.conn.busy_timeout(file::LOCK_WAIT);
        match outcome.and(waits) {
            Ok(()) => self.condition.refusals().succeeded(&self.store),
            Err(error) => {
                self.record_failures([&error].into_iter(), Some(began));
            }
        }
    }

    /// Runs a transaction. With `changes` it changes the count of transactions, because only a change shows that refusals have ended.
    fn try_transaction(&mut self, changes: bool) -> rusqlite::Result<()> {
        self.shape.begin(&self.conn)?;
        if !changes {
            return execute(&self.conn, "COMMIT");
        }
        self.watch.release_log();
        self.counter.count(&self.conn)?;
        execute(&self.conn, "COMMIT")?;
        self.counter.committed();
        Ok(())
    }

    /// Rolls back the transaction and completes its jobs with the error. Stops the store when the disk can no longer be trusted. `began`
    /// is the time of the operation that failed; `None` when a job failed.
    fn fail(&mut self, jobs: Vec<Box<dyn Job>>, error: rusqlite::Error, began: Option<Instant>) {
        self.roll_back();
        // A transaction that did not begin has changed no length.
        if !is_lock(&error) {
            self.watch.measure();
        }
        let is_recorded =
            self.record_failures(jobs.iter().filter_map(|job| job.failure()).chain([&error]), began);
        let stopped = self.condition.stopped();
        metrics::counter!("godzilla_store_failed_commits_total", "store" => self.store.clone()).increment(1);
        if !is_recorded {
            tracing::error!(store = &*self.store, %error, jobs = jobs.len(), ?stopped, "a transaction failed");
        }
        let verdict = Verdict::Lost(Arc::new(error));
        jobs.into_iter().for_each(|job| job.complete(&verdict));
    }

    /// Records in the condition of the store whether failures mean a shortage, which may end, or a broken disk. The last failure is
    /// recorded as a refusal when it is neither, and when it is that of an operation that began at `began`. Returns whether it is.
    pub fn record_failures<'a>(
        &self,
        failures: impl Iterator<Item = &'a rusqlite::Error>,
        began: Option<Instant>,
    ) -> bool {
        let (mut lacking, mut broken, mut last) = (None, false, None);
        for error in failures {
            last = Some(error);
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
        match last.zip(began).filter(|(error, _)| lacking.is_none() && !broken && is_environmental(error)) {
            None => false,
            Some((error, began)) => {
                self.condition.refusals().refused(error, began, &self.path, &self.store);
                true
            }
        }
    }

    fn roll_back(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = execute(&self.conn, "ROLLBACK")
        {
            tracing::error!(store = &*self.store, %error, "a transaction cannot be rolled back; the next one is refused");
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
