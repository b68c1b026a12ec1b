//! A write job: it runs in a transaction, and completes after the transaction ended. Created by [`Database`](crate::Database), driven
//! by the writer thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{Error, hooks};

/// The result of a transaction.
pub enum Verdict {
    /// The transaction is on disk.
    Committed,
    /// The transaction was not committed, for this reason.
    Lost(Arc<rusqlite::Error>),
    /// The file was removed.
    Gone,
}

/// A write with a result of any type.
pub trait Job: Send {
    /// Does the work in a savepoint of the open transaction and stores the outcome. A failure rolls back this job alone. Never panics.
    fn run(&mut self, conn: &Connection);

    /// The text of the failure of the work. `None` when it succeeded or has not run.
    fn failure(&self) -> Option<String>;

    /// Sends the result to the caller. Never panics.
    fn complete(self: Box<Self>, verdict: &Verdict);
}

/// The implementation of [`Job`].
pub struct Task<T, F, A> {
    work: Option<F>,
    outcome: Option<Result<T, Error>>,
    after: A,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F, A> Task<T, F, A> {
    /// A task that runs `work` once. Directly after the commit `after` runs with its result. Then the receiver gets the result.
    pub fn new(work: F, after: A) -> (Self, oneshot::Receiver<Result<T, Error>>) {
        let (reply, answer) = oneshot::channel();
        (Self { work: Some(work), outcome: None, after, reply }, answer)
    }
}

impl<T, F, A> Job for Task<T, F, A>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    A: FnOnce(&T) + Send,
{
    fn run(&mut self, conn: &Connection) {
        self.outcome = self.work.take().map(|work| in_savepoint(conn, work));
    }

    fn failure(&self) -> Option<String> {
        self.outcome.as_ref()?.as_ref().err().map(ToString::to_string)
    }

    fn complete(self: Box<Self>, verdict: &Verdict) {
        let Self { outcome, after, reply, .. } = *self;
        let answer = match (outcome, verdict) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), Verdict::Committed) => {
                if catch_unwind(AssertUnwindSafe(|| after(&value))).is_err() {
                    tracing::error!("a function that runs after a commit panicked");
                    hooks::report_failure();
                }
                Ok(value)
            }
            (_, Verdict::Lost(error)) => Err(Error::Commit(error.clone())),
            (_, Verdict::Gone) => Err(Error::Gone),
            (None, Verdict::Committed) => Err(Error::Closed),
        };
        // `send` fails when the caller has dropped the future.
        let _ = reply.send(answer);
    }
}

/// Runs `work` in a savepoint. A failure rolls back the savepoint alone.
fn in_savepoint<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Error> {
    execute(conn, "SAVEPOINT job")?;
    let outcome = guarded(|| work(conn));
    if conn.is_autocommit() {
        // SQLite has rolled back the whole transaction, including the savepoint. The writer detects that too.
        return outcome.and(Err(Error::Closed));
    }
    let end = match outcome {
        Ok(_) => execute(conn, "RELEASE job"),
        Err(_) => execute(conn, "ROLLBACK TO job").and_then(|()| execute(conn, "RELEASE job")),
    };
    if let Err(error) = end {
        // The savepoint is neither released nor rolled back. Only a rollback of the whole transaction removes its changes for certain.
        let _ = execute(conn, "ROLLBACK");
        return outcome.and(Err(error.into()));
    }
    outcome
}

/// Runs `work` and turns a panic into an error.
pub fn guarded<T>(work: impl FnOnce() -> rusqlite::Result<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(Error::Sqlite),
        Err(_) => Err(Error::Panicked),
    }
}

/// Runs a statement without parameters or rows. It is prepared once per connection.
pub fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(drop)
}
