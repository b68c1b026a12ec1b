//! The handle of a store: opens the file, starts the threads, queues jobs and awaits their results. Used by the SQLite backends of
//! sessions, accounts and chat.

use std::{
    future::Future,
    io, mem,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    Error, file,
    job::{Job, Task},
    reader::{self, Read},
    writer::Writer,
};

/// The options of a store, such as `Options { readers: 4, ..Options::new(SCHEMA) }`.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The schema, as a script of SQL. It runs in a new file.
    pub schema: &'static str,
    /// The number of reader threads; at least 1.
    pub readers: usize,
    /// The capacity of the queue of the writer, and of the queue of the readers. A job beyond it gets [`Error::Busy`].
    pub queue: usize,
    /// The maximum time that a caller waits. Then it gets [`Error::Timeout`].
    pub deadline: Duration,
}

impl Options {
    /// The defaults: two readers, queues of 1,024 jobs, a deadline of 5 s.
    pub const fn new(schema: &'static str) -> Self {
        Self { schema, readers: 2, queue: 1_024, deadline: Duration::from_secs(5) }
    }
}

/// One open SQLite file. Cheap to clone; clones share the store. Dropping the last one finishes the queued jobs, empties the log and
/// closes the file, and blocks until that is done.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    /// The queue of the writer. `None` while closing.
    writes: RwLock<Option<SyncSender<Box<dyn Job>>>>,
    /// The queue of the readers. `None` while closing.
    reads: RwLock<Option<SyncSender<Read>>>,
    /// The readers, and last the writer: only the last connection can empty the log. Empty once they are joined.
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The value of [`Options::deadline`].
    deadline: Duration,
    /// The name of the store in metrics: the file name without its extension.
    store: Arc<str>,
}

impl Database {
    /// Opens the file at `path`. Creates it (mode 0600) and its schema where it is missing. The directory must exist, and be locked
    /// ([`lock`](crate::lock)) when other processes may open the file. Blocks; call it at start.
    ///
    /// # Errors
    /// [`Error::Unusable`]: the file has another schema, or the error of the system or of SQLite.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let at = |error: io::Error| Error::at(path, error);
        let store: Arc<str> = path.file_stem().unwrap_or_default().to_string_lossy().into();
        let file = file::private(path).map_err(at)?;
        let conn = file::writing(path, options.schema)?;
        let readers = (0..options.readers.max(1)).map(|_| file::reading(path));
        let readers: Vec<Connection> = readers.collect::<Result<_, _>>()?;
        let (writes, queue) = sync_channel(options.queue);
        let (reads, read_queue) = sync_channel(options.queue);
        let writer = Writer { conn, queue, store: store.clone(), file };
        let threads = start(&store, writer, readers, read_queue).map_err(at)?;
        let (writes, reads) = (RwLock::new(Some(writes)), RwLock::new(Some(reads)));
        let (threads, deadline) = (Mutex::new(threads), options.deadline);
        Ok(Self { inner: Arc::new(Inner { writes, reads, threads, deadline, store }) })
    }

    /// Finishes the queued jobs, empties the log and closes the file, even while other handles exist. Their calls return
    /// [`Error::Closed`] from now on. Blocks until that is done. Dropping the last handle does the same.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Queues `job` for the writer, at the call and not when the future is first polled. The future resolves when the changes of the job
    /// are on disk. Jobs run in the order of the calls. Each runs in a savepoint of a transaction that it may share with other jobs, so
    /// an `Err` or a panic rolls back this job alone. A queued job runs even if the future is dropped. A job must not begin or end
    /// transactions. A result that is no failure of the store, such as a name that is taken, is a value of `T`.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Timeout`] (it is then unknown whether the job is stored), [`Error::Closed`], [`Error::Gone`],
    /// [`Error::Commit`], [`Error::Panicked`], or the error of the job as [`Error::Sqlite`].
    pub fn write<T, F>(&self, job: F) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write_then(job, |_: &T| ())
    }

    /// Like [`Database::write`]. When the job is stored, `after` runs with its result on the writer thread, directly after the commit, in
    /// commit order, and before the future resolves. `after` must not block, because all writes wait for it.
    pub fn write_then<T, F, A>(
        &self,
        job: F,
        after: A,
    ) -> impl Future<Output = Result<T, Error>> + Send + use<T, F, A>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (task, answer) = Task::new(job, after);
        let queued = self.queue("write", &self.inner.writes, Box::new(task));
        self.result(queued, answer)
    }

    /// Like [`Database::write`], and blocks until the job is done. For tools without a runtime.
    ///
    /// # Errors
    /// As [`Database::write`], without a deadline.
    pub fn write_blocking<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (task, answer) = Task::new(job, |_: &T| ());
        self.queue("write", &self.inner.writes, Box::new(task))?;
        answer.blocking_recv().unwrap_or(Err(Error::Closed))
    }

    /// Queues `job` for a reader, at the call. The future resolves with its result. All statements of the job read one snapshot of the
    /// store, which contains every write that was acknowledged before the job began.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Timeout`], [`Error::Closed`], [`Error::Panicked`], or the error of the job as [`Error::Sqlite`].
    pub fn read<T, F>(&self, job: F) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (task, answer) = reader::task(job);
        let queued = self.queue("read", &self.inner.reads, task);
        self.result(queued, answer)
    }

    /// Reads, and writes a page, for `/readyz`.
    ///
    /// # Errors
    /// Why the store does not work.
    pub async fn ping(&self) -> Result<(), Error> {
        let version =
            |conn: &Connection| conn.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0));
        let version = self.read(version).await?;
        self.write(move |conn| conn.pragma_update(None, "user_version", version)).await
    }

    fn queue<J>(
        &self,
        queue: &'static str,
        sender: &RwLock<Option<SyncSender<J>>>,
        job: J,
    ) -> Result<(), Error> {
        let sender = sender.read().unwrap_or_else(PoisonError::into_inner);
        match sender.as_ref().ok_or(Error::Closed)?.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Error::Closed),
            Err(TrySendError::Full(_)) => {
                let store = self.inner.store.clone();
                metrics::counter!("godzilla_store_queue_full_total", "store" => store, "queue" => queue)
                    .increment(1);
                Err(Error::Busy)
            }
        }
    }

    fn result<T: Send>(
        &self,
        queued: Result<(), Error>,
        answer: oneshot::Receiver<Result<T, Error>>,
    ) -> impl Future<Output = Result<T, Error>> + Send + use<T> {
        let (deadline, store) = (self.inner.deadline, self.inner.store.clone());
        async move {
            queued?;
            match tokio::time::timeout(deadline, answer).await {
                Ok(answered) => answered.unwrap_or(Err(Error::Closed)),
                Err(_) => {
                    metrics::counter!("godzilla_store_timeouts_total", "store" => store).increment(1);
                    Err(Error::Timeout)
                }
            }
        }
    }
}

/// Starts a thread for each reading connection, and last the writer.
fn start(
    store: &str,
    writer: Writer,
    readers: Vec<Connection>,
    reads: Receiver<Read>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let reads = Arc::new(Mutex::new(reads));
    let named = |kind| thread::Builder::new().name(format!("{store}-{kind}"));
    let mut threads = Vec::new();
    for conn in readers {
        let reads = reads.clone();
        threads.push(named("read").spawn(move || reader::run(&conn, &reads))?);
    }
    threads.push(named("write").spawn(move || writer.run())?);
    Ok(threads)
}

impl Inner {
    fn close(&self) {
        let mut threads = mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let writer = threads.pop();
        *self.reads.write().unwrap_or_else(PoisonError::into_inner) = None;
        threads.into_iter().for_each(|reader| self.join(reader));
        *self.writes.write().unwrap_or_else(PoisonError::into_inner) = None;
        writer.into_iter().for_each(|writer| self.join(writer));
    }

    /// Waits for the end of a thread, unless it is the current thread: a job may drop the last handle.
    fn join(&self, thread: JoinHandle<()>) {
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!(store = &*self.store, "a thread of the store panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}
