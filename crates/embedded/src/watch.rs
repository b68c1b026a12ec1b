//! Whether the files of an open store are still at their paths. A process that holds a deleted file open writes to it
//! without any error, and all of it is gone when the process ends. Asked by the writer around every commit, by readers for
//! `/readyz`.

use std::{
    fs,
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

/// How often lengths are compared with the index before they count as wrong: another program may change both in between.
const LOOKS: u32 = 3;

/// The files of one store as they were when it was opened.
pub struct Watch {
    path: PathBuf,
    files: [Seen; SUFFIXES.len()],
}

/// One file.
struct Seen {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// The least number of bytes that it must have.
    length: AtomicU64,
}

impl Watch {
    /// Remembers which files are at the paths now. All of them must be there: the store is open.
    pub fn new(path: &Path) -> io::Result<Self> {
        let seen = |suffix: &str| {
            let path = beside(path, suffix);
            let about = fs::metadata(&path)?;
            let (device, inode) = (about.dev(), about.ino());
            Ok::<_, io::Error>(Seen { path, device, inode, length: AtomicU64::new(0) })
        };
        let [database, log, index, lock] = SUFFIXES.map(seen);
        Ok(Self { path: path.to_owned(), files: [database?, log?, index?, lock?] })
    }

    /// What is wrong with the files, in words for the log.
    pub fn fault(&self) -> Option<String> {
        let [database, log, index, lock] = &self.files;
        let faults = [
            database.fault(|| Index::read(&self.path).map(|index| index.database_bytes())),
            log.fault(|| Index::read(&self.path).map(|index| index.log_bytes())),
            index.fault(|| None),
            lock.fault(|| None),
        ];
        faults.into_iter().flatten().next()
    }

    /// Looks for the files and stops the store when they are gone. True while they are there.
    pub fn look(&self, condition: &Condition, store: &str) -> bool {
        let Some(fault) = self.fault() else { return true };
        if condition.stopped().is_none() {
            metrics::counter!("godzilla_store_lost_files_total", "store" => store.to_owned()).increment(1);
            tracing::error!(store, fault, "the files of the store are gone, so it refuses all writes");
        }
        condition.stop(Stop::Gone);
        false
    }

    /// Records how long the files are, after a commit and while no commit is under way: from now on less is a fault, unless
    /// another program has written the log back or has vacuumed the database, which SQLite's index shows.
    pub fn measure(&self) {
        for seen in &self.files[..2] {
            if let Ok(about) = fs::metadata(&seen.path) {
                seen.length.store(about.len(), Ordering::Release);
            }
        }
    }

    /// Allows the log any length while a commit is under way, which may cut it.
    pub fn release_log(&self) {
        self.files[1].length.store(0, Ordering::Release);
    }
}

impl Seen {
    /// What is wrong with the file. `indexed` is the length that SQLite's index demands; it is asked when the file is shorter than
    /// it was.
    fn fault(&self, indexed: impl Fn() -> Option<u64>) -> Option<String> {
        let path = self.path.display();
        let mut looks = 0;
        loop {
            let least = self.length.load(Ordering::Acquire);
            let about = match fs::metadata(&self.path) {
                Ok(about) => about,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Some(format!("{path} is gone: {error}"));
                }
                // The path cannot be looked at now, for want of a right or of memory. The open file is still there.
                Err(_) => return None,
            };
            if (about.dev(), about.ino()) != (self.device, self.inode) {
                return Some(format!("another file is at {path}"));
            }
            // The index first: what it demands is in the file already.
            let demanded = (about.len() < least).then(&indexed).flatten();
            let found = fs::metadata(&self.path).map_or(0, |about| about.len());
            if found >= least || demanded.is_some_and(|demanded| found >= demanded) {
                return None;
            }
            looks += 1;
            // A commit on another thread can change the least length while this thread looks, and another program the index.
            if looks >= LOOKS && self.length.load(Ordering::Acquire) == least {
                return Some(format!("{path} has {found} bytes and had {least}"));
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
    fn each_way_to_lose_a_file_is_noticed() {
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
