//! The threads of one store. Started and joined by [`Database`](crate::Database).

use std::{
    io,
    sync::{Arc, Mutex, mpsc::Receiver},
    thread::{self, JoinHandle},
};

use rusqlite::Connection;

use crate::{
    reader::{self, Read},
    writer::Writer,
};

/// The threads of one store.
pub struct Threads {
    /// The readers, which share one queue.
    pub readers: Vec<JoinHandle<()>>,
    /// The writer, which ends last.
    pub writer: JoinHandle<()>,
}

/// Starts a thread for each reading connection and one for the writer.
///
/// # Errors
/// When the system cannot start a thread.
pub fn start(
    store: &str,
    writer: Writer,
    readers: Vec<Connection>,
    reads: Receiver<Read>,
) -> io::Result<Threads> {
    let reads = Arc::new(Mutex::new(reads));
    let mut threads = Vec::new();
    let (condition, named) =
        (writer.condition.clone(), |kind| thread::Builder::new().name(format!("{store}-{kind}")));
    for conn in readers {
        let (reads, condition) = (reads.clone(), condition.clone());
        threads.push(named("read").spawn(move || reader::run(conn, reads, &condition))?);
    }
    let writer = named("write").spawn(move || writer.run())?;
    Ok(Threads { readers: threads, writer })
}

/// Waits for the end of a thread, unless it is the current thread.
pub fn join(thread: JoinHandle<()>, store: &str) {
    // A job may drop the last handle. The thread of the job then ends after the job.
    if thread.thread().id() != thread::current().id() && thread.join().is_err() {
        tracing::error!(store, "a thread of the store panicked");
    }
}
