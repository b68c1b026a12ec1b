//! The handle of a store: opens the file, starts the threads, queues jobs and awaits their results. Used by the SQLite backends of
//! sessions, accounts and chat.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    Error, Options,
    condition::Condition,
    health::Health,
    job::{Job, Task},
    opening::{self, Opened},
    reader::{self, Read},
    refusals::{is_lock, locked},
    reserve, shortage, state,
    threads::{self, Threads},
    watch::Watch,
    writer::Writer,
};

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
    /// The writer and the readers. `None` once they are joined.
    threads: Mutex<Option<Threads>>,
    /// The faults of the store.
    condition: Arc<Condition>,
    /// The check that the files are at their paths.
    watch: Arc<Watch>,
    path: PathBuf,
    /// The health of the writer thread.
    health: Arc<Health>,
    /// The result of [`Database::lost`].
    lost: bool,
    /// The result of [`Database::group`].
    group: Option<String>,
    /// The value of [`Options::deadline`].
    deadline: Duration,
    /// The name of the store in metrics: the file name without its extension.
    store: Arc<str>,
}

impl Database {
    /// Opens the file at `path` and migrates its schema. Creates the file (mode 0600) and its directory (0700) where they are missing.
    /// Blocks; call it at start.
    ///
    /// # Errors
    /// For a file in use, a newer schema, a network filesystem, a store that has lost committed data, and the other errors of
    /// [`Error`] that are marked "At start".
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let Opened { counter, database, conn, readers, lost, group, watch, shape } =
            opening::open(path, &options)?;
        let store: Arc<str> = path.file_stem().unwrap_or_default().to_string_lossy().into();
        let (condition, watch) = (Arc::new(Condition::default()), Arc::new(watch));
        let health = Arc::new(Health::new());
        let (writes, queue) = sync_channel(options.queue);
        let (reads, read_queue) = sync_channel(options.queue);
        let writer = Writer {
            conn,
            queue,
            condition: condition.clone(),
            watch: watch.clone(),
            path: path.to_owned(),
            store: store.clone(),
            has_warned: false,
            health: health.clone(),
            database,
            counter,
            shape,
        };
        let no_thread = |source| Error::File { path: path.to_owned(), source };
        let threads = threads::start(&store, writer, readers, read_queue).map_err(no_thread)?;
        let (writes, reads) = (RwLock::new(Some(writes)), RwLock::new(Some(reads)));
        let (threads, deadline) = (Mutex::new(Some(threads)), options.deadline);
        Ok(Self {
            inner: Arc::new(Inner {
                writes,
                reads,
                threads,
                condition,
                watch,
                path: path.to_owned(),
                health,
                lost,
                group,
                deadline,
                store,
            }),
        })
    }

    /// Whether the end of the log was not intact when the store was opened, so that stored data may be missing. Positions in this store
    /// that other processes or clients have stored are then invalid.
    pub fn lost(&self) -> bool {
        self.inner.lost
    }

    /// The group of files that the store belonged to when it was opened.
    pub fn group(&self) -> Option<&str> {
        self.inner.group.as_deref()
    }

    /// Makes the store a member of a group of files ([`new_group`](crate::new_group)). Queued at the call.
    pub fn set_group(&self, id: &str) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let id = id.to_owned();
        self.write(move |conn| state::set_group(conn, &id))
    }

    /// Records a position in another file, up to which the references to this store were compared with it
    /// ([`Snapshot::compared`](crate::Snapshot::compared)). Queued at the call.
    pub fn set_compared(&self, position: &str) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let position = position.to_owned();
        self.write(move |conn| state::set_compared(conn, &position))
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
    /// [`Error::Busy`], [`Error::Timeout`] (it is then unknown whether the job is stored), [`Error::Closed`], [`Error::Broken`],
    /// [`Error::Gone`], [`Error::Commit`], [`Error::Panicked`], or the error of the job as [`Error::Sqlite`].
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
        let queued = match self.inner.condition.stopped() {
            None => self.queue_write(Box::new(task)),
            Some(stop) => Err(stop.into()),
        };
        self.result(queued, answer)
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

    /// False once the store rejects every write until a restart: after an I/O error, or when its files are gone.
    pub fn is_writable(&self) -> bool {
        self.inner.condition.stopped().is_none()
    }

    /// Why the store does not work, as a phrase that follows its name, for `/readyz`: lost files, less free space than the reserve, or a
    /// writer thread that has ended, that hangs (in an fsync), or that lets jobs wait, or transactions that are refused, as by a lock of
    /// another program. `None` when it works. After a write that failed for lack of space, a trial write of 1 MiB decides. The writer
    /// tries a transaction each second while it is idle.
    pub async fn not_ready_reason(&self) -> Option<String> {
        if !self.inner.health.is_good() {
            return Some("has a writer that hangs or has ended; check the disk and restart".to_owned());
        }
        let inner = self.inner.clone();
        let check = move |_: &Connection| {
            inner.watch.check(&inner.condition, &inner.store);
            inner.condition.set_low(reserve::is_used_up(&inner.path));
            Ok(())
        };
        let checked = self.read(check).await;
        if self.inner.condition.shortage().is_some() {
            let path = self.inner.path.clone();
            if let Ok(lacking) = self.write(move |_| Ok(shortage::lacking(&path))).await {
                self.inner.condition.set_shortage(lacking);
            }
        }
        self.inner.condition.not_ready_reason().or_else(|| match checked {
            Ok(()) => None,
            Err(Error::Sqlite(error)) if is_lock(&error) => {
                Some(format!("cannot be read: {}", locked(&self.inner.path)))
            }
            Err(_) => Some("does not answer".to_owned()),
        })
    }

    fn queue_write(&self, job: Box<dyn Job>) -> Result<(), Error> {
        self.inner.health.queued();
        self.queue("write", &self.inner.writes, job).inspect_err(|_| self.inner.health.refused())
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

impl Inner {
    /// Ends the readers and then the writer. The connection of the writer must be the last, because only the last connection can empty
    /// the log.
    fn close(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        *self.reads.write().unwrap_or_else(PoisonError::into_inner) = None;
        let Some(Threads { readers, writer }) = threads else { return };
        readers.into_iter().for_each(|reader| threads::join(reader, &self.store));
        *self.writes.write().unwrap_or_else(PoisonError::into_inner) = None;
        threads::join(writer, &self.store);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}
