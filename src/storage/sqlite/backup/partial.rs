//! The directory of an incomplete copy. It is removed when the copy fails and when the process receives a termination
//! signal. After a process was killed, the next backup in the same directory removes it: the owner holds a lock on the
//! directory.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, mpsc::channel},
    thread,
};

use embedded::new_group;
use futures_util::future::select_all;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::Level;

use super::{super::FILES, failed, refused_in};
use crate::{error::Error, telemetry};

/// Separates the name of the copy and a random id.
const MARK: &str = ".partial-";

/// Number of digits of the id.
const ID: usize = 16;

/// Attempts to remove the directory. The copy continues meanwhile and can add a file.
const TRIES: usize = 10;

/// The directory to remove when the process ends. Locked while the copy is renamed.
static CURRENT: Mutex<Option<PathBuf>> = Mutex::new(None);

/// A directory that only this process fills. Dropping it removes the directory.
pub struct Partial {
    path: PathBuf,
    /// Held until the value is dropped.
    _lock: File,
}

impl Partial {
    /// Creates a directory in `parent` for the copy called `name`. Removes directories of processes that have ended.
    pub fn make(parent: &Path, name: &OsStr) -> Result<Self, Error> {
        remove_abandoned(parent);
        let group = new_group().map_err(failed(parent))?;
        let path = parent.join(format!(".{}{MARK}{group}", name.to_string_lossy()));
        let mut current = current();
        DirBuilder::new().mode(0o700).create(&path).map_err(refused_in(parent, &path))?;
        *current = Some(path.clone());
        let lock = File::open(&path).map_err(refused_in(parent, &path))?;
        // On a filesystem without such locks, directories of killed processes remain.
        if matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) {
            return Err(failed(&path)("another backup removes it as abandoned; try again"));
        }
        Ok(Self { path, _lock: lock })
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the copy to its final name. A signal waits until that is done.
    pub fn publish(self, rename: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
        let mut current = current();
        rename(&self.path)?;
        *current = None;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = current().take() {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Removes directories of killed processes in `directory`.
pub fn remove_abandoned(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let partials = entries.filter(|entry| is_partial(&entry.file_name().to_string_lossy()));
    for path in partials.map(|entry| entry.path()) {
        let about = fs::symlink_metadata(&path);
        let is_ours =
            about.is_ok_and(|about| about.is_dir() && about.uid() == nix::unistd::geteuid().as_raw());
        let Some(lock) = is_ours.then(|| File::open(&path).ok()).flatten() else { continue };
        if lock.try_lock().is_ok() && holds_a_copy_alone(&path) {
            tracing::info!(path = %path.display(), "removing the incomplete copy of an interrupted backup");
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "the incomplete copy of an interrupted backup cannot be removed; delete it by hand");
            }
        }
    }
}

fn is_partial(name: &str) -> bool {
    let id = name.starts_with('.').then(|| name.rsplit_once(MARK)).flatten();
    id.is_some_and(|(_, id)| id.len() == ID && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn holds_a_copy_alone(directory: &Path) -> bool {
    let is_ours = |name: &str| FILES.iter().any(|file| name.starts_with(file));
    let mut entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.all(|entry| is_ours(&entry.file_name().to_string_lossy()))
}

/// From now on a termination signal removes the directory before the process ends. The exit status is then 128 plus the
/// number of the signal.
///
/// # Errors
/// When the system starts no thread or does not deliver signals.
pub fn remove_at_signals() -> Result<(), Error> {
    let (ready, is_ready) = channel();
    let wait = move || {
        let runtime = match runtime::Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async {
            let listen = |(_, number)| Ok((number, signal(SignalKind::from_raw(number))?));
            let mut signals: Vec<(i32, Signal)> = match [((), 2), ((), 15)].into_iter().map(listen).collect()
            {
                Ok(signals) => signals,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let _ = ready.send(Ok(()));
            let next = signals.iter_mut().map(|(number, signal)| {
                Box::pin(async move {
                    signal.recv().await;
                    *number
                })
            });
            let (number, ..) = select_all(next).await;
            let current = current().take();
            let path = current.iter().cycle().take(TRIES).find(|path| fs::remove_dir_all(path).is_ok());
            if current.is_some() && path.is_none() {
                telemetry::write_line(
                    Level::WARN,
                    "the incomplete copy cannot be removed; the next backup removes it",
                );
            }
            telemetry::flush();
            std::process::exit(128 + number)
        })
    };
    let started = thread::Builder::new().name("signals".to_owned()).spawn(wait);
    let listening =
        started.and_then(|_| is_ready.recv().map_err(std::io::Error::other).and_then(|ready| ready));
    listening.map_err(|error| Error::part("signals", error))
}

fn current() -> MutexGuard<'static, Option<PathBuf>> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}
