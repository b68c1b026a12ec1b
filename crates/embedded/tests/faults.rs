//! Faults of the disk, of the files and of their content. Errors of the system are injected by `strace`, which `scripts/test` installs.
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

/// The number of words that `dies` stores.
const STORED: usize = 20;

fn open(directory: &Path) -> Result<Database, Error> {
    Database::open(&directory.join(FILE), Options::new(SCHEMA))
}

async fn count(db: &Database) -> usize {
    let count =
        |conn: &Connection| conn.query_row("SELECT count(*) FROM word", [], |row| row.get::<_, i64>(0));
    usize::try_from(db.read(count).await.unwrap()).unwrap()
}

/// Runs the example `second_process`, which cargo builds with the tests. `prefix` is the shell code before its command line.
fn child(directory: &Path, prefix: &str, command: &str) -> Output {
    let this = std::env::current_exe().unwrap();
    let example = this.parent().and_then(Path::parent).unwrap().join("examples/second_process");
    assert!(example.exists(), "{} is built with the tests", example.display());
    let script = format!("{prefix} \"$0\" {command}");
    Command::new("sh").arg("-c").arg(script).arg(example).current_dir(directory).output().unwrap()
}

/// A file of the store.
fn part(directory: &Path, suffix: &str) -> PathBuf {
    directory.join(format!("{FILE}{suffix}"))
}

#[tokio::test]
async fn writes_are_not_acknowledged_once_a_file_is_gone() {
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
        let reason = db.not_ready_reason().await.expect(what);
        assert!(reason.contains("lost its files"), "{what}: {reason}");
        assert!(matches!(add("later").await, Err(Error::Gone)), "{what}");
    }
}

#[tokio::test]
async fn a_write_is_not_acknowledged_when_a_file_is_removed_during_its_transaction() {
    let root = TempDir::new().unwrap();
    let at = root.path().join("data");
    let db = open(&at).unwrap();
    let removed = at.clone();
    let refused = db
        .write(move |conn| {
            let stored = conn.execute("INSERT INTO word(text) VALUES ('lost')", []);
            fs::remove_dir_all(removed).unwrap();
            stored
        })
        .await;
    assert!(matches!(refused, Err(Error::Gone)), "{refused:?}");
}

#[tokio::test]
async fn missing_files_are_detected_without_a_write() {
    let root = TempDir::new().unwrap();
    let at = root.path().join("data");
    let db = open(&at).unwrap();
    fs::remove_dir_all(&at).unwrap();
    assert!(db.not_ready_reason().await.is_some_and(|reason| reason.contains("lost its files")));
    assert!(!db.is_writable());
}

#[tokio::test]
async fn closing_a_store_does_not_change_the_files_of_another_at_its_path() {
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

/// A fault of the system.
struct Fault {
    what: &'static str,
    /// The shell code that injects the fault.
    prefix: &'static str,
    /// A part of the printed reason why the store is not ready after the fault.
    reason: &'static str,
    /// Whether the store accepts writes after the fault.
    writable: bool,
}

#[test]
fn writes_are_retried_after_a_shortage_and_rejected_after_an_io_error() {
    let inject = "strace -f -qq -o /dev/null -e trace=pwrite64,fdatasync,fsync,ftruncate -e inject=";
    let faults = [
        // The trial write fails too. Then the shortage ends.
        ("quota", "pwrite64:error=EDQUOT:when=60..61", "none", true),
        ("no space", "pwrite64:error=ENOSPC:when=60", "none", true),
        ("file size", "pwrite64:error=EFBIG:when=60..61", "none", true),
        // The shortage does not end.
        ("quota stays", "pwrite64:error=EDQUOT:when=60+", "disk quota", true),
        ("no space stays", "pwrite64:error=ENOSPC:when=60+", "no space left", true),
        ("file size stays", "pwrite64:error=EFBIG:when=60+", "file size limit", true),
        ("disk", "pwrite64:error=EIO:when=60..61", "I/O error", false),
        ("sync", "fdatasync,fsync:error=EIO:when=40", "I/O error", false),
        ("quota at sync", "fdatasync,fsync:error=EDQUOT:when=40", "I/O error", false),
    ];
    for (what, injected, reason, writable) in faults {
        let prefix = format!("{inject}{injected}");
        check(&Fault { what, prefix: &prefix.leak()[..], reason, writable });
    }
    // A limit of the kernel, below which a small write still fits: the small write is stored, and the store is not ready. The kernel also
    // sends SIGXFSZ, which ends a process that does not ignore it.
    let prefix = "trap '' XFSZ; ulimit -f 2048;";
    check(&Fault { what: "ulimit", prefix, reason: "file size limit", writable: true });
}

fn check(Fault { what, prefix, reason, writable }: &Fault) {
    let directory = TempDir::new().unwrap();
    let child = child(directory.path(), prefix, "writes");
    let output = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{what}: {output} {}", String::from_utf8_lossy(&child.stderr));
    let line =
        |start: &str| output.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().to_owned();
    let acknowledged = output.lines().filter(|line| line.starts_with("acked ")).count();
    assert!(acknowledged > 0, "{what}: {output}");
    assert!(line("reason ").contains(reason), "{what}: {output}");
    assert!(line("finally ").contains(reason), "{what}: {output}");
    assert_eq!(line("writable "), writable.to_string(), "{what}: {output}");
    let small_fits = *reason == "none" || *what == "ulimit";
    assert_eq!(line("again ") == "stored", small_fits, "{what}: {output}");
    let db = open(directory.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(count(&db)) >= acknowledged, "{what}: acknowledged writes survive the restart");
}

/// A store whose process exited without closing it, with all its words in the log.
fn killed_store() -> TempDir {
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

/// The offset of the last frame of the log.
fn last_frame(log: &Path) -> u64 {
    (fs::metadata(log).unwrap().len() - 32) / 4_120 * 4_120 + 32 - 4_120
}

const LOST: &str = "has lost committed data";

#[tokio::test]
async fn damage_to_the_log_never_drops_acknowledged_writes_silently() {
    type Change = fn(&Path);
    // The damage; whether it can be detected only with the index of the log, which does not survive a crash of the machine.
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
            let directory = killed_store();
            let at = directory.path();
            change(at);
            if !has_index {
                // The lock file does not survive a crash of the machine either.
                fs::remove_file(part(at, "-shm")).unwrap();
                fs::remove_file(part(at, ".lock")).unwrap();
            }
            let opened = open(at);
            match opened {
                Err(error) => assert!(error.to_string().contains(LOST), "{what}: {error}"),
                // Without the index the last transaction may never have been acknowledged.
                Ok(db) if needs_index && !has_index => {
                    assert!(db.lost() || what == "log cut at a frame", "{what}");
                    continue;
                }
                Ok(_) => panic!("{what}, index {has_index}: opened"),
            }
            // A refused start changes nothing, and the loss can be accepted.
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
        ("half a frame after the last", |at| {
            let log = part(at, "-wal");
            let mut bytes = fs::read(&log).unwrap();
            bytes.extend_from_within(32..2_000);
            fs::write(&log, bytes).unwrap();
        }),
    ];
    for (what, change) in changes {
        let directory = killed_store();
        change(directory.path());
        let db = open(directory.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((count(&db).await, db.lost()), (STORED, false), "{what}");
    }
}

#[tokio::test]
async fn a_copy_without_its_log_is_refused() {
    let (directory, copy) = (killed_store(), TempDir::new().unwrap());
    fs::copy(part(directory.path(), ""), part(copy.path(), "")).unwrap();
    let refused = open(copy.path()).err().unwrap().to_string();
    assert!(refused.contains("without its -wal"), "{refused}");
    assert!(open(copy.path()).is_err(), "a second start");
    // With its log the copy is complete, and after a clean end there is no log.
    fs::copy(part(directory.path(), "-wal"), part(copy.path(), "-wal")).unwrap();
    let db = open(copy.path()).unwrap();
    assert_eq!(count(&db).await, STORED);
    drop(db);
    let closed = TempDir::new().unwrap();
    fs::copy(part(copy.path(), ""), part(closed.path(), "")).unwrap();
    assert_eq!(count(&open(closed.path()).unwrap()).await, STORED);
}

#[test]
fn a_path_that_is_not_a_file_is_refused_with_the_remedy() {
    for (kind, remedy) in
        [("link", "symbolic link"), ("directory", "is a directory"), ("pipe", "not a regular file")]
    {
        let root = TempDir::new().unwrap();
        let path = part(root.path(), "");
        match kind {
            "link" => {
                let target = root.path().join("target");
                std::fs::File::create(&target).unwrap();
                std::os::unix::fs::symlink(target, &path).unwrap();
            }
            "directory" => std::fs::create_dir(&path).unwrap(),
            _ => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        }
        let refused = open(root.path()).map(drop).unwrap_err().to_string();
        assert!(refused.contains(remedy), "{kind}: {refused}");
        assert!(!part(root.path(), ".lock").exists(), "{kind}: nothing is created");
    }
}

#[test]
fn a_pipe_beside_the_database_is_refused_without_waiting() {
    for suffix in ["-wal", "-shm", ".lock"] {
        let root = TempDir::new().unwrap();
        nix::unistd::mkfifo(&part(root.path(), suffix), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = open(root.path()).map(drop).unwrap_err().to_string();
        assert!(refused.contains(suffix) && refused.contains("not a regular file"), "{suffix}: {refused}");
        assert!(!part(root.path(), "").exists(), "{suffix}: nothing is created");
    }
}
