//! The reader threads. Each has its own connection and runs each job in one snapshot. Jobs come from [`Database`](crate::Database).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc::Receiver},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    Error, hooks,
    job::{execute, guarded},
};

/// A read with a result of any type.
pub type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Creates a read from `work`. The receiver gets its result.
pub fn task<T, F>(work: F) -> (Read, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let read = move |conn: &Connection| {
        // The caller has dropped the future, and a read has no effects.
        if !reply.is_closed() {
            let _ = reply.send(in_snapshot(conn, work));
        }
    };
    (Box::new(read), answer)
}

/// Runs reads until every sender of the queue is dropped. The readers share the queue, and an idle one takes the next read. A panic
/// fails one read.
pub fn run(conn: &Connection, queue: &Arc<Mutex<Receiver<Read>>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(read) = next else { return };
        let _ = catch_unwind(AssertUnwindSafe(|| {
            hooks::fault("");
            read(conn);
        }));
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
