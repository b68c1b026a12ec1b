//! The other processes that hold a lock of SQLite on the files of a store. Read from `/proc/locks`, because a file of an open store must
//! not be opened and closed: `close` drops all locks of the process on the file. Used for log lines and `/readyz`.

use std::{fs, ops::RangeInclusive, os::unix::fs::MetadataExt, path::Path, process};

use nix::sys::stat::{major, minor};

use crate::file::beside;

/// The bytes of the index (`-shm`) that SQLite locks to write, to checkpoint and to recover.
const WRITE: RangeInclusive<u64> = 120..=122;

/// The bytes of the index that SQLite locks to read a snapshot.
const READ: RangeInclusive<u64> = 123..=127;

/// The bytes of the database that a program with `locking_mode = EXCLUSIVE` locks.
const EXCLUSIVE: RangeInclusive<u64> = 0x4000_0000..=0x4000_01FF;

/// The other processes that prevent this one from writing, such as `process 42 (sqlite3)`. `None` when the system names no process.
pub fn writers(path: &Path) -> Option<String> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let mut found = holders(&locks, &beside(path, "-shm"), &WRITE, false);
    found.extend(holders(&locks, path, &EXCLUSIVE, true));
    names(found)
}

/// The other processes that read a snapshot. `None` when the system names no process.
pub fn readers(path: &Path) -> Option<String> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    names(holders(&locks, &beside(path, "-shm"), &READ, false))
}

/// The processes with a lock on one of `bytes` of the file. `is_exclusive` excludes shared locks.
fn holders(locks: &str, file: &Path, bytes: &RangeInclusive<u64>, is_exclusive: bool) -> Vec<u32> {
    let Ok(about) = fs::metadata(file) else { return Vec::new() };
    let id = format!("{:02x}:{:02x}:{}", major(about.dev()), minor(about.dev()), about.ino());
    let lines = locks.lines().filter_map(|line| held(line, &id, bytes, is_exclusive));
    lines.filter(|process| *process != process::id()).collect()
}

/// The process of one line of `/proc/locks`, such as `1: POSIX  ADVISORY  WRITE 42 08:01:4711 120 120`. `None` when the lock is another
/// one, and when the process is in another namespace.
fn held(line: &str, id: &str, bytes: &RangeInclusive<u64>, is_exclusive: bool) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    // A process that waits for a lock has an arrow before its fields.
    let [_, _, access, process, file, first, last] = words[..] else { return None };
    let first: u64 = first.parse().ok()?;
    let last: u64 = if last == "EOF" { u64::MAX } else { last.parse().ok()? };
    let overlaps = first <= *bytes.end() && last >= *bytes.start();
    let matches = file == id && overlaps && (access == "WRITE" || !is_exclusive);
    process.parse().ok().filter(|process| matches && *process > 0)
}

fn names(mut processes: Vec<u32>) -> Option<String> {
    processes.sort_unstable();
    processes.dedup();
    let name = |process: &u32| {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        format!("process {process} ({})", name.trim_end())
    };
    let names: Vec<String> = processes.iter().map(name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_files_bytes_and_waiting_processes_are_ignored() {
        let cases = [
            ("1: POSIX  ADVISORY  WRITE 42 08:01:4711 120 120", Some(42)),
            ("1: POSIX  ADVISORY  READ 42 08:01:4711 0 EOF", Some(42)),
            ("1: POSIX  ADVISORY  WRITE 42 08:01:4711 123 127", None),
            ("1: POSIX  ADVISORY  WRITE 42 08:02:4711 120 120", None),
            ("1: -> POSIX  ADVISORY  WRITE 42 08:01:4711 120 120", None),
            ("1: OFDLCK ADVISORY  WRITE -1 08:01:4711 120 120", None),
            ("1: POSIX  ADVISORY  WRITE 0 08:01:4711 120 120", None),
            ("a line of a later kernel", None),
        ];
        for (line, process) in cases {
            assert_eq!(held(line, "08:01:4711", &WRITE, false), process, "{line}");
        }
        assert_eq!(held("1: POSIX ADVISORY READ 42 08:01:4711 0 EOF", "08:01:4711", &EXCLUSIVE, true), None);
    }
}
