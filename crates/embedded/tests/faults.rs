//! What a store does when its disk, its files or their content fail it. The system's errors are injected by `strace`, which
//! `scripts/test` installs.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use embedded::{Database, Error, Options, rusqlite::Connection};
use tempfile::TempDir;

const SCHEMA: &[&str] = &[
    "CREATE TABLE word(number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
    "CREATE TABLE link(word INTEGER NOT NULL REFERENCES word(number) DEFERRABLE INITIALLY DEFERRED) STRICT",
];

const FILE: &str = "words.sqlite3";

/// Words that `dies` stores.
const STORED: usize = 20;

fn open(directory: &Path) -> Result<Database, Error> {
    Database::open(&directory.join(FILE), Options::new(SCHEMA))
}

async fn count(db: &Database) -> usize {
    let count =
        |conn: &Connection| conn.query_row("SELECT count(*) FROM word", [], |row| row.get::<_, i64>(0));
    usize::try_from(db.read(count).await.unwrap()).unwrap()
}

/// Runs the example `second_process`, which cargo builds with the tests, behind some words of the shell.
fn child(directory: &Path, before: &str, what: &str) -> Output {
    let this = std::env::current_exe().unwrap();
    let example = this.parent().and_then(Path::parent).unwrap().join("examples/second_process");
    assert!(example.exists(), "{} is built with the tests", example.display());
    let script = format!("{before} \"$0\" {what}");
    Command::new("sh").arg("-c").arg(script).arg(example).current_dir(directory).output().unwrap()
}

/// A file of the store.
fn part(directory: &Path, suffix: &str) -> PathBuf {
    directory.join(format!("{FILE}{suffix}"))
}

#[tokio::test]
async fn nothing_is_acked_once_a_file_is_gone() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 7] = [
        ("directory removed", |at| fs::remove_dir_all(at).unwrap()),
        ("directory renamed", |at| fs::rename(at, at.with_extension("old")).unwrap()),
        ("database removed", |at| fs::remove_file(part(at, "")).unwrap()),
        ("log removed", |at| fs::remove_file(part(at, "-wal")).unwrap()),
        ("lock removed", |at| fs::remove_file(part(at, ".lock")).unwrap()),
        ("database replaced", |at| {
            fs::copy(part(at, ""), at.join("restored")).unwrap();
            fs::rename(at.join("restored"), part(at, "")).unwrap();
        }),
        ("log cut", |at| File::options().write(true).open(part(at, "-wal")).unwrap().set_len(100).unwrap()),
    ];
    for (what, change) in changes {
        let root = TempDir::new().unwrap();
        let at = root.path().join("data");
        let db = open(&at).unwrap();
        let add = |text: &'static str| {
            db.write(move |conn| conn.execute("INSERT INTO word(text) VALUES (?1)", [text]))
        };
        add("before").await.unwrap();
        assert_eq!(db.not_ready_reason().await, None, "{what}");
        change(&at);
        let refused = add("after").await;
        assert!(matches!(refused, Err(Error::Gone)), "{what}: {refused:?}");
        let not_ready_reason = db.not_ready_reason().await.expect(what);
        assert!(not_ready_reason.contains("lost its files"), "{what}: {not_ready_reason}");
        assert!(matches!(add("later").await, Err(Error::Gone)), "{what}");
    }
}

#[tokio::test]
async fn a_file_that_goes_while_a_transaction_is_under_way_takes_its_ack_along() {
    let root = TempDir::new().unwrap();
    let at = root.path().join("data");
    let db = open(&at).unwrap();
    let gone = at.clone();
    let refused = db
        .write(move |conn| {
            let stored = conn.execute("INSERT INTO word(text) VALUES ('lost')", []);
            fs::remove_dir_all(gone).unwrap();
            stored
        })
        .await;
    assert!(matches!(refused, Err(Error::Gone)), "{refused:?}");
}

#[tokio::test]
async fn files_that_are_gone_are_noticed_without_a_write() {
    let root = TempDir::new().unwrap();
    let at = root.path().join("data");
    let db = open(&at).unwrap();
    fs::remove_dir_all(&at).unwrap();
    assert!(db.not_ready_reason().await.is_some_and(|words| words.contains("lost its files")));
    assert!(!db.is_writable());
}

#[tokio::test]
async fn the_end_of_a_store_leaves_the_files_of_another_alone() {
    let root = TempDir::new().unwrap();
    let at = root.path().join("data");
    let db = open(&at).unwrap();
    fs::rename(&at, at.with_extension("old")).unwrap();
    let other = open(&at).unwrap();
    other.write(|conn| conn.execute("INSERT INTO word(text) VALUES ('other')", [])).await.unwrap();
    assert!(db.not_ready_reason().await.is_some());
    drop(db);
    assert!(part(&at, "-wal").exists());
    assert_eq!((count(&other).await, other.not_ready_reason().await), (1, None));
}

/// A fault of the system: how it is made; the obstacle at the end; whether writes are tried again.
struct Fault {
    what: &'static str,
    before: &'static str,
    not_ready_reason: &'static str,
    writable: bool,
}

#[test]
fn what_lacks_room_is_tried_again_and_what_is_broken_is_not() {
    let inject = "strace -f -qq -o /dev/null -e trace=pwrite64,fdatasync,fsync,ftruncate -e inject=";
    let faults = [
        // The trial fails as well. Then there is room again, or there is none.
        ("quota", "pwrite64:error=EDQUOT:when=60..61", "none", true),
        ("no space", "pwrite64:error=ENOSPC:when=60", "none", true),
        ("file size", "pwrite64:error=EFBIG:when=60..61", "none", true),
        ("quota stays", "pwrite64:error=EDQUOT:when=60+", "disk quota", true),
        ("no space stays", "pwrite64:error=ENOSPC:when=60+", "no space left", true),
        ("file size stays", "pwrite64:error=EFBIG:when=60+", "file size limit", true),
        ("disk", "pwrite64:error=EIO:when=60..61", "I/O error", false),
        ("sync", "fdatasync,fsync:error=EIO:when=40", "I/O error", false),
        ("quota at sync", "fdatasync,fsync:error=EDQUOT:when=40", "I/O error", false),
    ];
    for (what, injected, not_ready_reason, writable) in faults {
        let before = format!("{inject}{injected}");
        holds(&Fault { what, before: &before.leak()[..], not_ready_reason, writable });
    }
    // The kernel's own limit, below which a small write still fits: it is stored, and the store is not ready. The kernel sends SIGXFSZ as well, which ends a process that
    // does not ignore it.
    let before = "trap '' XFSZ; ulimit -f 2048;";
    holds(&Fault { what: "ulimit", before, not_ready_reason: "file size limit", writable: true });
}

fn holds(Fault { what, before, not_ready_reason, writable }: &Fault) {
    let directory = TempDir::new().unwrap();
    let child = child(directory.path(), before, "writes");
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{what}: {said} {}", String::from_utf8_lossy(&child.stderr));
    let line =
        |start: &str| said.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().to_owned();
    let acked = said.lines().filter(|line| line.starts_with("acked ")).count();
    assert!(acked > 0, "{what}: {said}");
    assert!(line("obstacle ").contains(not_ready_reason), "{what}: {said}");
    assert!(line("finally ").contains(not_ready_reason), "{what}: {said}");
    assert_eq!(line("writable "), writable.to_string(), "{what}: {said}");
    let small_fits = *not_ready_reason == "none" || *what == "ulimit";
    assert_eq!(line("again ") == "stored", small_fits, "{what}: {said}");
    let db = open(directory.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(count(&db)) >= acked, "{what}: what was acked is there after the restart");
}

/// A store whose process has died, with all its words in the log.
fn dead() -> TempDir {
    let directory = TempDir::new().unwrap();
    assert!(child(directory.path(), "", "dies").status.success());
    directory
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// Where the last frame of the log begins that belongs to it.
fn last_frame(log: &Path) -> u64 {
    (fs::metadata(log).unwrap().len() - 32) / 4_120 * 4_120 + 32 - 4_120
}

const LOST: &str = "has lost committed data";

#[tokio::test]
async fn damage_to_the_log_never_drops_what_was_acked_in_silence() {
    type Change = fn(&Path);
    // What is done; whether the index beside the log, which a crash of the machine does not keep, is needed to find it.
    let changes: [(&str, bool, Change); 10] = [
        ("header of the log", false, |at| flip(&part(at, "-wal"), 17)),
        ("magic number of the log", false, |at| flip(&part(at, "-wal"), 3)),
        ("number in an early frame", false, |at| flip(&part(at, "-wal"), 32 + 2 * 4_120 + 1)),
        ("salt in an early frame", false, |at| flip(&part(at, "-wal"), 32 + 2 * 4_120 + 9)),
        ("checksum in an early frame", false, |at| flip(&part(at, "-wal"), 32 + 2 * 4_120 + 17)),
        ("page in an early frame", false, |at| flip(&part(at, "-wal"), 32 + 2 * 4_120 + 500)),
        ("page in the last frame", true, |at| {
            let log = part(at, "-wal");
            flip(&log, last_frame(&log) + 500);
        }),
        ("log cut at a frame", true, |at| {
            let log = File::options().write(true).open(part(at, "-wal")).unwrap();
            log.set_len(last_frame(&part(at, "-wal"))).unwrap();
        }),
        ("log emptied", true, |at| {
            File::options().write(true).open(part(at, "-wal")).unwrap().set_len(0).unwrap()
        }),
        ("log removed", true, |at| fs::remove_file(part(at, "-wal")).unwrap()),
    ];
    for (what, needs_index, change) in changes {
        for has_index in [true, false] {
            let directory = dead();
            let at = directory.path();
            change(at);
            if !has_index {
                // Nor is the lock file what it was.
                fs::remove_file(part(at, "-shm")).unwrap();
                fs::remove_file(part(at, ".lock")).unwrap();
            }
            let opened = open(at);
            match opened {
                Err(error) => assert!(error.to_string().contains(LOST), "{what}: {error}"),
                // Without the index the last transaction may be one that was never acked.
                Ok(db) if needs_index && !has_index => {
                    assert!(db.lost() || what == "log cut at a frame", "{what}");
                    continue;
                }
                Ok(_) => panic!("{what}, index {has_index}: opened"),
            }
            // A refusal changes nothing, and the loss can be accepted.
            assert!(open(at).is_err(), "{what}: a second start");
            let accepted = Options { accept_loss: true, ..Options::new(SCHEMA) };
            let db = Database::open(&part(at, ""), accepted).unwrap();
            assert!(db.lost() && count(&db).await < STORED, "{what}");
            drop(db);
            assert!(!open(at).unwrap().lost(), "{what}: the next start");
        }
    }
}

#[tokio::test]
async fn a_crash_of_the_process_loses_nothing_and_needs_no_index() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 4] = [
        ("nothing", |_| ()),
        ("index removed", |at| fs::remove_file(part(at, "-shm")).unwrap()),
        ("bit in the index", |at| flip(&part(at, "-shm"), 17)),
        ("half a frame behind the last", |at| {
            let log = part(at, "-wal");
            let mut bytes = fs::read(&log).unwrap();
            bytes.extend_from_within(32..2_000);
            fs::write(&log, bytes).unwrap();
        }),
    ];
    for (what, change) in changes {
        let directory = dead();
        change(directory.path());
        let db = open(directory.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((count(&db).await, db.lost()), (STORED, false), "{what}");
    }
}

#[tokio::test]
async fn a_copy_without_its_log_is_refused() {
    let (directory, copy) = (dead(), TempDir::new().unwrap());
    fs::copy(part(directory.path(), ""), part(copy.path(), "")).unwrap();
    let refused = open(copy.path()).err().unwrap().to_string();
    assert!(refused.contains("without its -wal"), "{refused}");
    assert!(open(copy.path()).is_err(), "a second start");
    // With its log it is whole, and after a clean end there is no log.
    fs::copy(part(directory.path(), "-wal"), part(copy.path(), "-wal")).unwrap();
    let db = open(copy.path()).unwrap();
    assert_eq!(count(&db).await, STORED);
    drop(db);
    let closed = TempDir::new().unwrap();
    fs::copy(part(copy.path(), ""), part(closed.path(), "")).unwrap();
    assert_eq!(count(&open(closed.path()).unwrap()).await, STORED);
}
