//! The handle: opens the file, starts the threads, queues jobs, waits for answers. Used by the SQLite backends of
//! sessions, accounts and chat.

use std::{
    future::Future,
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    Error, file,
    health::Health,
    job::{Job, Task},
    reader::{self, Read},
    schema,
    writer::Writer,
};

/// How a store is opened. `Options { readers: 4, ..Options::new(MIGRATIONS) }`.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The schema, as SQL scripts that are only ever appended to. None of them may delete what users stored.
    pub migrations: &'static [&'static str],
    /// Threads that read; at least 1.
    pub readers: usize,
    /// Jobs that may wait, for the writer and again for the readers; one more is [`Error::Busy`].
    pub queue: usize,
    /// How long a caller waits; then it gets [`Error::Timeout`].
    pub deadline: Duration,
}

/// One open SQLite file. Clones are the same store. Dropping the last one finishes what is queued, empties the log,
/// closes the file and waits for all that.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    /// Into the writer; none while closing.
    writes: Option<SyncSender<Box<dyn Job>>>,
    /// Into the readers; none while closing.
    reads: Option<SyncSender<Read>>,
    /// Readers first, the writer last.
    threads: Vec<JoinHandle<()>>,
    /// See [`Writer::broken`].
    broken: Arc<AtomicBool>,
    /// See [`Writer::full`].
    full: Arc<AtomicBool>,
    /// Of the writer's thread.
    health: Arc<Health>,
    /// See [`Options::deadline`].
    deadline: Duration,
    /// The store's name in metrics: the file's, without its ending.
    store: Arc<str>,
}

impl Options {
    /// Two readers, queues of 1,024, 5 s.
    pub const fn new(migrations: &'static [&'static str]) -> Self {
        Self { migrations, readers: 2, queue: 1_024, deadline: Duration::from_secs(5) }
    }
}

impl Database {
    /// Opens the file at `path`, making it (0600) and its directory (0700) where they are missing, and brings its schema
    /// up to date. Blocks; call it at start. See [`Error`] for what it refuses: a file in use, a newer schema, a
    /// network filesystem.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let lock = file::claim(path)?;
        let open = |source| Error::Open { path: path.to_owned(), source };
        let mut conn = file::writing(path).map_err(open)?;
        schema::migrate(&mut conn, path, options.migrations)?;
        let readers: Vec<Connection> = (0..options.readers.max(1))
            .map(|_| file::reading(path))
            .collect::<Result<_, _>>()
            .map_err(open)?;
        let store: Arc<str> = path.file_stem().unwrap_or_default().to_string_lossy().into();
        let (broken, full) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let health = Arc::new(Health::new());
        let (writes, queue) = sync_channel(options.queue);
        let (reads, reading) = sync_channel(options.queue);
        let writer = Writer {
            conn,
            queue,
            broken: broken.clone(),
            full: full.clone(),
            store: store.clone(),
            alarmed: false,
            health: health.clone(),
            lock,
        };
        let no_thread = |source| Error::File { path: path.to_owned(), source };
        let threads = start(&store, writer, readers, reading).map_err(no_thread)?;
        let (writes, reads, deadline) = (Some(writes), Some(reads), options.deadline);
        Ok(Self { inner: Arc::new(Inner { writes, reads, threads, broken, full, health, deadline, store }) })
    }

    /// Queues `job` for the writer, at the call and not when the future is first polled, and resolves when what it did is
    /// on disk. Jobs are done in the order of the calls, each in a savepoint of a transaction it may share with others:
    /// `Err` or a panic undoes this job alone. Once queued it is done even if nobody waits. A job must not begin or end
    /// transactions; an outcome that is no failure of the store (a name is taken) is a value of `T`.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Timeout`] (then it is unknown whether the job is stored), [`Error::Closed`],
    /// [`Error::Broken`], [`Error::Commit`], [`Error::Panicked`], or the job's own as [`Error::Sqlite`].
    pub fn write<T, F>(&self, job: F) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write_then(job, |_: &T| ())
    }

    /// Like [`Database::write`]; and if the job is stored, `after` sees its result on the writer's thread, right after
    /// the commit, in commit order and before the future resolves. `after` must not block: everybody's writes wait.
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
        let queued = match self.is_writable() {
            true => self.queue("write", self.inner.writes.as_ref(), Box::new(task) as Box<dyn Job>),
            false => Err(Error::Broken),
        };
        self.answer(queued, answer)
    }

    /// Queues `job` for a reader, at the call, and resolves with its result. All its statements see one state of the
    /// store, in which every write that was answered before the job began is there.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Timeout`], [`Error::Closed`], [`Error::Panicked`], or the job's own as
    /// [`Error::Sqlite`].
    pub fn read<T, F>(&self, job: F) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (task, answer) = reader::task(job);
        let queued = self.queue("read", self.inner.reads.as_ref(), task);
        self.answer(queued, answer)
    }

    /// False from the first I/O error on: the store then refuses every write, and only a restart helps. For `/readyz`.
    pub fn is_writable(&self) -> bool {
        !self.inner.broken.load(Ordering::Relaxed)
    }

    /// Whether a write would succeed: the writer's thread runs, does not hang in a batch (in an fsync, for example) and trusts the
    /// disk. After a batch that found no room on the disk this tries a small write. For `/readyz`.
    pub async fn takes_writes(&self) -> bool {
        if !self.inner.health.is_good() {
            return false;
        }
        if !self.inner.full.load(Ordering::Relaxed) {
            return self.is_writable();
        }
        let version = "PRAGMA user_version";
        let same = |conn: &Connection| {
            let version: i64 = conn.query_row(version, [], |row| row.get(0))?;
            conn.pragma_update(None, "user_version", version)
        };
        self.write(same).await.is_ok()
    }

    fn queue<J>(&self, queue: &'static str, sender: Option<&SyncSender<J>>, job: J) -> Result<(), Error> {
        match sender.ok_or(Error::Closed)?.try_send(job) {
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

    fn answer<T: Send>(
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

impl Drop for Inner {
    fn drop(&mut self) {
        self.reads = None;
        self.writes = None;
        for thread in self.threads.drain(..) {
            // A job may hold the last handle: its own thread then ends right after it.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!(store = &*self.store, "a thread of the store panicked");
            }
        }
    }
}

fn start(
    store: &str,
    writer: Writer,
    readers: Vec<Connection>,
    reads: Receiver<Read>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let reads = Arc::new(Mutex::new(reads));
    let mut threads = Vec::new();
    for conn in readers {
        let reads = reads.clone();
        let named = thread::Builder::new().name(format!("{store}-read"));
        threads.push(named.spawn(move || reader::run(conn, reads))?);
    }
    let named = thread::Builder::new().name(format!("{store}-write"));
    threads.push(named.spawn(move || writer.run())?);
    Ok(threads)
}
