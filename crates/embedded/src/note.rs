//! The content of the lock file: the start of the machine, and how many transactions the present opening of the store has
//! committed. The same number is a row of the database, so that the next start sees whether all of them are there, wherever the
//! log is. Written by the writer's thread, read by [`Database::open`](crate::Database::open) and by `check`.

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

/// Bytes of a note without the end of its line.
const LENGTH: usize = 91;

/// The lock file as the last process left it.
#[derive(Debug)]
pub struct Noted {
    /// Whether the machine has not been started since. Then `opening` is up to date; otherwise `commits` is a lower bound.
    pub same_boot: bool,
    /// None after a clean end, and where an earlier release held the lock.
    pub opening: Option<Opening>,
}

impl Noted {
    /// Reads the lock file of the store at `path`. A note that is missing or damaged is no note.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(beside(path, ".lock")).unwrap_or_default();
        let same_boot = text.split_ascii_whitespace().next() == Some(&*boot());
        Self { same_boot, opening: parse(&text) }
    }
}

fn parse(text: &str) -> Option<Opening> {
    let (noted, sum) = text.trim_end().rsplit_once(' ')?;
    let mut words = noted.split(' ').skip(1);
    let opening = Opening { id: words.next()?.to_owned(), commits: words.next()?.parse().ok()? };
    (sum == sum_of(noted)).then_some(opening)
}

fn sum_of(noted: &str) -> String {
    format!("{:016x}", xxh3_64(noted.as_bytes()))
}

/// What identifies this start of the machine; `-` where the system has no such id.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if id.trim().is_empty() { "-".to_owned() } else { id.trim().to_owned() }
}

/// Counts the transactions of one opening. Holds the lock while it lives.
pub struct Tally {
    lock: File,
    boot: String,
    /// None while nothing is counted.
    opening: Option<Opening>,
}

impl Tally {
    /// Notes this start of the machine and no opening.
    pub fn new(lock: File) -> io::Result<Self> {
        let this = Self { lock, boot: boot(), opening: None };
        this.clear()?;
        Ok(this)
    }

    /// Begins to count. The id of the opening must be in the database file, and not in the log alone.
    pub fn begin(&mut self, id: String) -> io::Result<()> {
        let opening = Opening { id, commits: 0 };
        self.note(&opening)?;
        self.lock.sync_all()?;
        self.opening = Some(opening);
        Ok(())
    }

    /// Writes the number of the transaction under way into the database, as a part of it.
    pub fn count(&self, conn: &Connection) -> rusqlite::Result<()> {
        let Some(Opening { id, commits }) = &self.opening else { return Ok(()) };
        state::set_commits(conn, &Opening { id: id.clone(), commits: commits + 1 })
    }

    /// Notes that the transaction was committed. A note that cannot be written is withdrawn.
    pub fn committed(&mut self) {
        let Some(mut opening) = self.opening.take() else { return };
        opening.commits += 1;
        match self.note(&opening) {
            Ok(()) => self.opening = Some(opening),
            Err(error) => {
                tracing::warn!(%error, "the lock file cannot be written; the next start checks less");
                let _ = self.clear();
            }
        }
    }

    /// Notes a clean end.
    pub fn end(mut self) {
        self.opening = None;
        let _ = self.clear();
    }

    fn note(&self, Opening { id, commits }: &Opening) -> io::Result<()> {
        let noted = format!("{} {id} {commits:020}", self.boot);
        // Always of one length and within one block, so that a process that dies leaves the old note or the new one.
        self.lock.write_all_at(format!("{noted} {}\n", sum_of(&noted)).as_bytes(), 0)
    }

    /// Leaves the start of the machine alone. It is written in place, because a full disk has no room for it elsewhere; where that
    /// fails nothing is left.
    fn clear(&self) -> io::Result<()> {
        let written = self.lock.write_all_at(format!("{:<LENGTH$}\n", self.boot).as_bytes(), 0);
        if let Err(error) = written.and_then(|()| self.lock.sync_all()) {
            tracing::warn!(%error, "the lock file cannot be written; the next start checks less");
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
    fn a_note_is_read_back_and_a_damaged_one_is_none() {
        let root = TempDir::new().unwrap();
        let path = root.path().join("words.sqlite3");
        let lock =
            || File::options().write(true).create(true).truncate(false).open(beside(&path, ".lock")).unwrap();
        assert_eq!(Noted::read(&path).opening, None);
        let mut tally = Tally::new(lock()).unwrap();
        assert!(Noted::read(&path).opening.is_none());
        tally.begin("0123456789abcdef".to_owned()).unwrap();
        tally.committed();
        tally.committed();
        let noted = Noted::read(&path);
        assert_eq!(noted.opening, Some(Opening { id: "0123456789abcdef".to_owned(), commits: 2 }));
        assert_eq!(noted.same_boot, boot() != "-");
        let whole = fs::read(beside(&path, ".lock")).unwrap();
        for at in 0..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(beside(&path, ".lock"), bytes).unwrap();
            assert_eq!(Noted::read(&path).opening, None, "bit in byte {at}");
        }
        tally.end();
        assert_eq!(Noted::read(&path).opening, None);
        let left = fs::read_to_string(beside(&path, ".lock")).unwrap();
        assert_eq!((left.trim_end(), left.len()), (&*boot(), whole.len()));
    }
}
