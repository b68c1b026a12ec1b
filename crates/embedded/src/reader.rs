//! The threads that read, each on its own connection and in one snapshot per job. Fed by [`Database`](crate::Database).

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

/// A read, whatever its result's type.
pub type Read = Box<dyn FnOnce(&Connection, &Condition) + Send>;

/// Makes a read of `work`; the receiver gets its result.
pub fn task<T, F>(work: F) -> (Read, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let read = move |conn: &Connection, condition: &Condition| {
        // Nobody waits any more, and a read changes nothing.
        if reply.is_closed() {
            return;
        }
        let outcome = in_snapshot(conn, work);
        if let Err(Error::Sqlite(error)) = &outcome
            && is_damage(error)
        {
            tracing::error!(%error, "a read found damaged content");
            metrics::counter!("godzilla_store_damaged_reads_total").increment(1);
            condition.set_damaged();
        }
        let _ = reply.send(outcome);
    };
    (Box::new(read), answer)
}

/// Works until every sender of the queue is gone. The queue is shared: whoever is free takes the next. A panic ends one read.
pub fn run(conn: Connection, queue: Arc<Mutex<Receiver<Read>>>, condition: &Condition) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(read) = next else { return };
        let done = catch_unwind(AssertUnwindSafe(|| {
            hooks::fault();
            read(&conn, condition);
        }));
        if done.is_err() && !conn.is_autocommit() {
            // Whoever asked was answered with an error; the next read begins anew.
            let _ = execute(&conn, "ROLLBACK");
        }
    }
}

/// All statements of one read see the same state, whatever is written meanwhile.
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
