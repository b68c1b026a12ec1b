//! The check that the files of an open store are still at their paths. A process can write to a deleted file without an error, and the
//! writes are lost when the process ends. Used by the writer before and after every commit, and by readers for `/readyz`.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    condition::{Condition, Stop},
    damage::Index,
    file::beside,
};

/// The suffixes of the files that belong to a store: the database, its log, the log's index, the lock.
const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", ".lock"];

/// The number of comparisons of a length with the index before the length counts as wrong. Another program may change both during a
/// comparison.
const ATTEMPTS: u32 = 3;

/// The files of one store at its opening.
pub struct Watch {
    files: [WatchedFile; SUFFIXES.len()],
    /// The index. It stays open, because `close` drops all locks of the process on a file, also those of SQLite.
    index: File,
}

/// One file.
struct WatchedFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// The minimum length in bytes.
    length: AtomicU64,
}

impl Watch {
    /// Records the files that are at the paths now. All of them must exist, because the store is open.
    pub fn new(path: &Path) -> io::Result<Self> {
        let file = |suffix: &str| {
            let path = beside(path, suffix);
            let about = fs::metadata(&path)?;
            let (device, inode) = (about.dev(), about.ino());
            Ok::<_, io::Error>(WatchedFile { path, device, inode, length: AtomicU64::new(0) })
        };
        let [database, log, index, lock] = SUFFIXES.map(file);
        let open = File::open(beside(path, "-shm"))?;
        Ok(Self { files: [database?, log?, index?, lock?], index: open })
    }

    /// The first fault of the files, as a text for log lines. `None` when the files are intact.
    pub fn fault(&self) -> Option<String> {
        let [database, log, index, lock] = &self.files;
        let faults = [
            database.fault(|| Index::read_file(&self.index).map(|index| index.database_bytes())),
            log.fault(|| Index::read_file(&self.index).map(|index| index.log_bytes())),
            index.fault(|| None),
            lock.fault(|| None),
        ];
        faults.into_iter().flatten().next()
    }

    /// Checks the files and stops the store when they are gone. Returns whether they are intact.
    pub fn check(&self, condition: &Condition, store: &str) -> bool {
        let Some(fault) = self.fault() else { return true };
        if condition.stopped().is_none() {
            metrics::counter!("godzilla_store_lost_files_total", "store" => store.to_owned()).increment(1);
            tracing::error!(store, fault, "the files of the store are gone, rejecting all writes");
        }
        condition.stop(Stop::Gone);
        false
    }

    /// Records the lengths of the database and the log as their minimum lengths. Call it after a commit, and while no commit is in
    /// progress. A shorter file is then a fault, unless the index of SQLite shows that another program has written the log back or has
    /// vacuumed the database.
    pub fn measure(&self) {
        for file in &self.files[..2] {
            if let Ok(about) = fs::metadata(&file.path) {
                file.length.store(about.len(), Ordering::Release);
            }
        }
    }

    /// Allows any length of the log during a commit, which may truncate it.
    pub fn release_log(&self) {
        self.files[1].length.store(0, Ordering::Release);
    }
}

impl WatchedFile {
    /// The fault of the file; `None` when it is intact. `indexed` returns the length that SQLite's index requires. It is called when the
    /// file is shorter than its minimum length.
    fn fault(&self, indexed: impl Fn() -> Option<u64>) -> Option<String> {
        let path = self.path.display();
        let mut attempts = 0;
        loop {
            let minimum = self.length.load(Ordering::Acquire);
            let about = match fs::metadata(&self.path) {
                Ok(about) => about,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Some(format!("{path} is gone: {error}"));
                }
                // The path cannot be checked now, for lack of a permission or of memory. The open file still exists.
                Err(_) => return None,
            };
            if (about.dev(), about.ino()) != (self.device, self.inode) {
                return Some(format!("another file is at {path}"));
            }
            // The index is read before the length, because the file already has the length that the index requires.
            let required = (about.len() < minimum).then(&indexed).flatten();
            let found = fs::metadata(&self.path).map_or(0, |about| about.len());
            if found >= minimum || required.is_some_and(|required| found >= required) {
                return None;
            }
            attempts += 1;
            // During the comparison, a commit on another thread can change the minimum length, and another program can change the index.
            if attempts >= ATTEMPTS && self.length.load(Ordering::Acquire) == minimum {
                return Some(format!("{path} has {found} bytes and had {minimum}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    type Change = fn(&Path, &Path);

    const CHANGES: [(&str, Change); 8] = [
        ("the directory removed", |directory, _| fs::remove_dir_all(directory).unwrap()),
        ("the directory renamed", |directory, _| {
            fs::rename(directory, directory.with_extension("old")).unwrap();
        }),
        ("the database removed", |_, path| fs::remove_file(path).unwrap()),
        ("the log removed", |_, path| fs::remove_file(beside(path, "-wal")).unwrap()),
        ("the index removed", |_, path| fs::remove_file(beside(path, "-shm")).unwrap()),
        ("the lock removed", |_, path| fs::remove_file(beside(path, ".lock")).unwrap()),
        ("the database replaced", |directory, path| {
            let other = directory.join("other");
            fs::copy(path, &other).unwrap();
            fs::rename(other, path).unwrap();
        }),
        ("the database cut", |_, path| {
            fs::File::options().write(true).open(path).unwrap().set_len(9).unwrap()
        }),
    ];

    #[test]
    fn each_way_to_lose_a_file_is_detected() {
        for (what, change) in CHANGES {
            let root = TempDir::new().unwrap();
            let directory = root.path().join("data");
            fs::create_dir(&directory).unwrap();
            let path = directory.join("words.sqlite3");
            for suffix in SUFFIXES {
                fs::write(beside(&path, suffix), "ten bytes.").unwrap();
            }
            let watch = Watch::new(&path).unwrap();
            watch.measure();
            assert_eq!(watch.fault(), None);
            change(&directory, &path);
            assert!(watch.fault().is_some(), "{what}");
        }
    }
}
