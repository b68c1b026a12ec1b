//! A write on its way through the writer: first run, then, when its transaction is decided, settled. Made by
//! [`Database`](crate::Database), driven by the writer thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{Error, condition::Stop, hooks};

/// What became of a transaction.
pub enum Verdict {
    /// It is on disk.
    Committed,
    /// It is not, for this reason.
    Lost(Arc<rusqlite::Error>),
    /// The store takes no writes any more. Whether the transaction is stored is unknown.
    Refused(Stop),
}

/// A write, whatever its result's type.
pub trait Job: Send {
    /// Does the work in a savepoint of the open transaction and remembers the outcome. A failure undoes this job alone.
    /// Never panics.
    fn run(&mut self, conn: &Connection);

    /// What SQLite said when the work failed.
    fn failure(&self) -> Option<&rusqlite::Error>;

    /// Tells whoever waits. Never panics.
    fn settle(self: Box<Self>, verdict: &Verdict);
}

/// The one kind of [`Job`].
pub struct Task<T, F, A> {
    work: Option<F>,
    outcome: Option<Result<T, Error>>,
    after: A,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F, A> Task<T, F, A> {
    /// `work` is run once; `after` sees its result right after the commit; then the receiver gets it.
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

    fn failure(&self) -> Option<&rusqlite::Error> {
        match &self.outcome {
            Some(Err(Error::Sqlite(error))) => Some(error),
            _ => None,
        }
    }

    fn settle(self: Box<Self>, verdict: &Verdict) {
        let Self { outcome, after, reply, .. } = *self;
        let answer = match (outcome, verdict) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), Verdict::Committed) => {
                if catch_unwind(AssertUnwindSafe(|| after(&value))).is_err() {
                    tracing::error!("what should follow a commit panicked");
                    hooks::failed();
                }
                Ok(value)
            }
            (_, Verdict::Lost(error)) => Err(Error::Commit(error.clone())),
            (_, Verdict::Refused(stop)) => Err((*stop).into()),
            (None, Verdict::Committed) => Err(Error::Closed),
        };
        // Whoever asked may have stopped waiting.
        let _ = reply.send(answer);
    }
}

/// Runs `work` so that its failure undoes it and nothing else.
fn in_savepoint<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Error> {
    execute(conn, "SAVEPOINT job")?;
    let outcome = guarded(|| work(conn));
    if conn.is_autocommit() {
        // SQLite itself gave up the whole transaction, savepoint included; the writer sees that too.
        return outcome.and(Err(ended()));
    }
    let end = match outcome {
        Ok(_) => execute(conn, "RELEASE job"),
        Err(_) => execute(conn, "ROLLBACK TO job").and_then(|()| execute(conn, "RELEASE job")),
    };
    if let Err(error) = end {
        // Neither kept nor undone: only without the whole transaction is it surely gone.
        let _ = execute(conn, "ROLLBACK");
        return outcome.and(Err(error.into()));
    }
    outcome
}

/// Runs `work` and makes a panic of it an error.
pub fn guarded<T>(work: impl FnOnce() -> rusqlite::Result<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(Error::Sqlite),
        Err(_) => Err(Error::Panicked),
    }
}

/// Runs a statement without parameters or rows, prepared once per connection.
pub fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(drop)
}

fn ended() -> Error {
    let abort = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT);
    rusqlite::Error::SqliteFailure(abort, Some("the job ended its transaction".into())).into()
}
