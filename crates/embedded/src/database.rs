//! The handle: opens the file, starts the threads, queues jobs, waits for answers. Used by the SQLite backends of
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
    reserve, shortage, state,
    threads::{self, Threads},
    watch::Watch,
    writer::Writer,
};

/// One open SQLite file. Clones are the same store. Dropping the last one finishes what is queued, empties the log,
/// closes the file and waits for all that.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    /// Into the writer; none while closing.
    writes: RwLock<Option<SyncSender<Box<dyn Job>>>>,
    /// Into the readers; none while closing.
    reads: RwLock<Option<SyncSender<Read>>>,
    /// The writer, and the readers; none once joined.
    threads: Mutex<Option<Threads>>,
    /// What keeps it from writing.
    condition: Arc<Condition>,
    /// Whether the files are still there.
    watch: Arc<Watch>,
    /// The file.
    path: PathBuf,
    /// Of the writer's thread.
    health: Arc<Health>,
    /// See [`Database::lost`].
    lost: bool,
    /// See [`Database::group`].
    group: Option<String>,
    /// See [`Options::deadline`].
    deadline: Duration,
    /// The store's name in metrics: the file's, without its ending.
    store: Arc<str>,
}

impl Database {
    /// Opens the file at `path`, making it (0600) and its directory (0700) where they are missing, and brings its schema
    /// up to date. Blocks; call it at start. See [`Error`] for what it refuses: a file in use, a newer schema, a
    /// network filesystem, a store that has lost committed data.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let Opened { tally, conn, readers, lost, group, watch } = opening::open(path, &options)?;
        let store: Arc<str> = path.file_stem().unwrap_or_default().to_string_lossy().into();
        let (condition, watch) = (Arc::new(Condition::default()), Arc::new(watch));
        let health = Arc::new(Health::new());
        let (writes, queue) = sync_channel(options.queue);
        let (reads, reading) = sync_channel(options.queue);
        let writer = Writer {
            conn,
            queue,
            condition: condition.clone(),
            watch: watch.clone(),
            path: path.to_owned(),
            store: store.clone(),
            alarmed: false,
            health: health.clone(),
            tally,
        };
        let no_thread = |source| Error::File { path: path.to_owned(), source };
        let threads = threads::start(&store, writer, readers, reading).map_err(no_thread)?;
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

    /// Whether the end of the log was not intact when the store was opened, so that something that was stored may be
    /// missing. Positions in this store that others keep are then worth nothing.
    pub fn lost(&self) -> bool {
        self.inner.lost
    }

    /// The group of files that it belonged to when it was opened.
    pub fn group(&self) -> Option<&str> {
        self.inner.group.as_deref()
    }

    /// Makes it one of a group; see [`new_group`](crate::new_group). Queued at the call.
    pub fn set_group(&self, id: &str) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let id = id.to_owned();
        self.write(move |conn| state::set_group(conn, &id))
    }

    /// Finishes what is queued, empties the log and closes the file, also while other handles exist: their calls get
    /// [`Error::Closed`] from now on. Blocks until that is done. Dropping the last handle does the same.
    pub fn close(&self) {
        self.inner.close();
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
        let queued = match self.inner.condition.stopped() {
            None => self.queue_write(Box::new(task)),
            Some(stop) => Err(stop.into()),
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
        let queued = self.queue("read", &self.inner.reads, task);
        self.answer(queued, answer)
    }

    /// False once the store refuses every write until a restart: after an I/O error, or when its files are gone.
    pub fn is_writable(&self) -> bool {
        self.inner.condition.stopped().is_none()
    }

    /// What keeps the store from working, in words for `/readyz`: lost files, less than the reserve of free space, a writer
    /// thread that has ended, hangs (in an fsync) or lets jobs wait. After a write that found no room a trial of 1 MiB decides.
    pub async fn not_ready_reason(&self) -> Option<&'static str> {
        if !self.inner.health.is_good() {
            return Some("has a writer that hangs or has ended; check the disk and restart");
        }
        let inner = self.inner.clone();
        let look = move |_: &Connection| {
            inner.watch.look(&inner.condition, &inner.store);
            inner.condition.set_low(reserve::is_used_up(&inner.path));
            Ok(())
        };
        let looked = self.read(look).await;
        if self.inner.condition.shortage().is_some() {
            let path = self.inner.path.clone();
            if let Ok(lacking) = self.write(move |_| Ok(shortage::lacking(&path))).await {
                self.inner.condition.set_shortage(lacking);
            }
        }
        self.inner.condition.words().or_else(|| looked.is_err().then_some("does not answer"))
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

impl Inner {
    /// Ends the readers and then the writer, whose connection must be the last: only that one can empty the log.
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
