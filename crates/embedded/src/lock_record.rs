//! The record in the lock file: the boot id of the machine, and the number of transactions that the current opening of the store has
//! committed. The database contains the same number, so the next start can detect missing transactions, also without the log. Written
//! by the writer thread, read by [`Database::open`](crate::Database::open) and by `check`.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use rusqlite::Connection;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    file::beside,
    state::{self, Opening},
};

/// The bytes of a record without the newline.
const LENGTH: usize = 91;

/// The record that the last process wrote.
#[derive(Debug)]
pub struct LockRecord {
    /// Whether the machine has not restarted since. Then `opening` is up to date; otherwise its `commits` is a lower bound.
    pub same_boot: bool,
    /// The last opening. `None` after a clean end, and when an earlier release held the lock.
    pub opening: Option<Opening>,
}

impl LockRecord {
    /// Reads the lock file of the store at `path`. A missing or damaged record yields no `opening`.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(beside(path, ".lock")).unwrap_or_default();
        let same_boot = text.split_ascii_whitespace().next() == Some(&*boot());
        Self { same_boot, opening: parse(&text) }
    }
}

fn parse(text: &str) -> Option<Opening> {
    let (record, sum) = text.trim_end().rsplit_once(' ')?;
    let mut words = record.split(' ').skip(1);
    let opening = Opening { id: words.next()?.to_owned(), commits: words.next()?.parse().ok()? };
    (sum == sum_of(record)).then_some(opening)
}

fn sum_of(record: &str) -> String {
    format!("{:016x}", xxh3_64(record.as_bytes()))
}

/// The boot id of the machine; `-` when the system has no such id.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if id.trim().is_empty() { "-".to_owned() } else { id.trim().to_owned() }
}

/// Counts the committed transactions of one opening. Holds the lock until it is dropped.
pub struct CommitCounter {
    lock: File,
    boot: String,
    /// `None` while nothing is counted.
    opening: Option<Opening>,
}

impl CommitCounter {
    /// Writes a record with the boot id and without an opening.
    pub fn new(lock: File) -> io::Result<Self> {
        let this = Self { lock, boot: boot(), opening: None };
        this.clear()?;
        Ok(this)
    }

    /// Starts to count. The id of the opening must already be in the database file, and not only in the log.
    pub fn begin(&mut self, id: String) -> io::Result<()> {
        let opening = Opening { id, commits: 0 };
        self.write(&opening)?;
        self.lock.sync_all()?;
        self.opening = Some(opening);
        Ok(())
    }

    /// Writes the number of the current transaction into the database, as a part of that transaction.
    pub fn count(&self, conn: &Connection) -> rusqlite::Result<()> {
        let Some(Opening { id, commits }) = &self.opening else { return Ok(()) };
        state::set_commits(conn, &Opening { id: id.clone(), commits: commits + 1 })
    }

    /// Records that the transaction was committed. When the record cannot be written, counting stops and the opening is removed from
    /// the record.
    pub fn committed(&mut self) {
        let Some(mut opening) = self.opening.take() else { return };
        opening.commits += 1;
        match self.write(&opening) {
            Ok(()) => self.opening = Some(opening),
            Err(error) => {
                tracing::warn!(%error, "cannot write the lock file, the next start cannot check all transactions");
                let _ = self.clear();
            }
        }
    }

    /// Records a clean end.
    pub fn end(mut self) {
        self.opening = None;
        let _ = self.clear();
    }

    fn write(&self, Opening { id, commits }: &Opening) -> io::Result<()> {
        let record = format!("{} {id} {commits:020}", self.boot);
        // The record has a fixed length and lies within one block, so that a process that dies leaves either the old or the new one.
        self.lock.write_all_at(format!("{record} {}\n", sum_of(&record)).as_bytes(), 0)
    }

    /// Writes a record with the boot id only. It is written in place, because a full disk has no room elsewhere. When that fails, the
    /// file is truncated.
    fn clear(&self) -> io::Result<()> {
        let written = self.lock.write_all_at(format!("{:<LENGTH$}\n", self.boot).as_bytes(), 0);
        if let Err(error) = written.and_then(|()| self.lock.sync_all()) {
            tracing::warn!(%error, "cannot write the lock file, the next start cannot check all transactions");
            self.lock.set_len(0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_record_is_read_back_and_a_damaged_one_is_ignored() {
        let root = TempDir::new().unwrap();
        let path = root.path().join("words.sqlite3");
        let lock =
            || File::options().write(true).create(true).truncate(false).open(beside(&path, ".lock")).unwrap();
        assert_eq!(LockRecord::read(&path).opening, None);
        let mut counter = CommitCounter::new(lock()).unwrap();
        assert!(LockRecord::read(&path).opening.is_none());
        counter.begin("0123456789abcdef".to_owned()).unwrap();
        counter.committed();
        counter.committed();
        let record = LockRecord::read(&path);
        assert_eq!(record.opening, Some(Opening { id: "0123456789abcdef".to_owned(), commits: 2 }));
        assert_eq!(record.same_boot, boot() != "-");
        let whole = fs::read(beside(&path, ".lock")).unwrap();
        for at in 0..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(beside(&path, ".lock"), bytes).unwrap();
            assert_eq!(LockRecord::read(&path).opening, None, "bit in byte {at}");
        }
        counter.end();
        assert_eq!(LockRecord::read(&path).opening, None);
        let left = fs::read_to_string(beside(&path, ".lock")).unwrap();
        assert_eq!((left.trim_end(), left.len()), (&*boot(), whole.len()));
    }
}
