//! The reader threads. Each has its own connection and runs each job in one snapshot. Jobs come from [`Database`](crate::Database).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc::Receiver},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    Error,
    condition::Condition,
    error::is_damage,
    hooks,
    job::{execute, guarded},
};

/// A read with a result of any type.
pub type Read = Box<dyn FnOnce(&Connection, &Condition) + Send>;

/// Creates a read from `work`. The receiver gets its result.
pub fn task<T, F>(work: F) -> (Read, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let read = move |conn: &Connection, condition: &Condition| {
        // The caller has dropped the future, and a read has no effects.
        if reply.is_closed() {
            return;
        }
        let outcome = in_snapshot(conn, work);
        if let Err(Error::Sqlite(error)) = &outcome
            && is_damage(error)
        {
            tracing::error!(path = conn.path(), %error, "a read found damaged content");
            metrics::counter!("godzilla_store_damaged_reads_total").increment(1);
            condition.set_damaged();
        }
        let _ = reply.send(outcome);
    };
    (Box::new(read), answer)
}

/// Runs reads until every sender of the queue is dropped. The readers share the queue, and an idle one takes the next read. A panic
/// fails one read.
pub fn run(conn: Connection, queue: Arc<Mutex<Receiver<Read>>>, condition: &Condition) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(read) = next else { return };
        let done = catch_unwind(AssertUnwindSafe(|| {
            hooks::fault();
            read(&conn, condition);
        }));
        if done.is_err() && !conn.is_autocommit() {
            // The caller got an error. The rollback ends the transaction before the next read.
            let _ = execute(&conn, "ROLLBACK");
        }
    }
}

/// Runs `work` in a read transaction, so that all its statements read the same snapshot.
fn in_snapshot<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Error> {
    execute(conn, "BEGIN")?;
    let outcome = guarded(|| work(conn));
    if !conn.is_autocommit() {
        execute(conn, "ROLLBACK")?;
    }
    outcome
}
