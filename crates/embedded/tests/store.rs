//! The public interface of the store, with real files and threads. Tests that need a second process run the example
//! `second_process`.
#![allow(clippy::unwrap_used)]

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex, mpsc},
};

use embedded::{
    Database, Error, Options, Snapshot,
    rusqlite::{Connection, ErrorCode},
};
use tempfile::TempDir;

const SCHEMA: &[&str] = &[
    "CREATE TABLE word(number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
    "CREATE TABLE link(word INTEGER NOT NULL REFERENCES word(number) DEFERRABLE INITIALLY DEFERRED) STRICT",
];

const FILE: &str = "words.sqlite3";

fn open(directory: &Path) -> Result<Database, Error> {
    Database::open(&directory.join(FILE), Options::new(SCHEMA))
}

fn fresh() -> (TempDir, Database) {
    let directory = TempDir::new().unwrap();
    let db = open(directory.path()).unwrap();
    (directory, db)
}

fn add(text: &str) -> impl FnOnce(&Connection) -> embedded::rusqlite::Result<i64> + Send + 'static {
    let text = text.to_owned();
    move |conn| {
        conn.execute("INSERT INTO word(text) VALUES (?1)", [text])?;
        Ok(conn.last_insert_rowid())
    }
}

async fn words(db: &Database) -> Vec<String> {
    let all = |conn: &Connection| {
        let mut words = conn.prepare("SELECT text FROM word ORDER BY number")?;
        words.query_map([], |row| row.get(0))?.collect()
    };
    db.read(all).await.unwrap()
}

/// Blocks the writer until the sender is dropped. The future resolves after that.
fn occupy(db: &Database) -> (mpsc::Sender<()>, impl Future<Output = Result<(), Error>> + use<>) {
    let ((release, released), (started, begun)) = (mpsc::channel::<()>(), mpsc::channel());
    let busy = db.write(move |_| {
        started.send(()).unwrap();
        let _ = released.recv();
        Ok(())
    });
    begun.recv().unwrap();
    (release, busy)
}

#[tokio::test]
async fn writes_run_in_the_order_of_the_calls_and_are_visible_to_later_reads() {
    let (_directory, db) = fresh();
    let (release, busy) = occupy(&db);
    let texts: Vec<String> = (0..700).map(|number| format!("word {number}")).collect();
    let writes: Vec<_> = texts.iter().map(|text| db.write(add(text))).collect();
    drop(release);
    busy.await.unwrap();
    for (number, write) in (1..).zip(writes) {
        assert_eq!(write.await.unwrap(), number);
    }
    assert_eq!(words(&db).await, texts);
}

#[tokio::test]
async fn a_failing_job_is_rolled_back_alone() {
    let (_directory, db) = fresh();
    let (release, busy) = occupy(&db);
    let before = db.write(add("before"));
    let failing = db.write(|conn| {
        conn.execute("INSERT INTO word(text) VALUES ('half')", [])?;
        conn.execute("INSERT INTO word(text) VALUES ('half')", [])
    });
    let panicking = db.write(|conn| -> embedded::rusqlite::Result<()> {
        conn.execute("INSERT INTO word(text) VALUES ('panic')", [])?;
        panic!("injected")
    });
    let after = db.write(add("after"));
    drop(release);
    busy.await.unwrap();
    before.await.unwrap();
    assert!(matches!(failing.await, Err(Error::Sqlite(_))));
    assert!(matches!(panicking.await, Err(Error::Panicked)));
    after.await.unwrap();
    assert_eq!(words(&db).await, ["before", "after"]);
}

#[tokio::test]
async fn functions_after_a_commit_run_in_commit_order_and_before_the_result() {
    let (_directory, db) = fresh();
    let (release, busy) = occupy(&db);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = |seen: &Arc<Mutex<Vec<i64>>>| {
        let seen = seen.clone();
        move |number: &i64| seen.lock().unwrap().push(*number)
    };
    let first = db.write_then(add("a"), record(&seen));
    let duplicate = db.write_then(add("a"), record(&seen));
    let panicking = db.write_then(add("b"), |_: &i64| panic!("injected"));
    let last = db.write_then(add("c"), record(&seen));
    drop(release);
    busy.await.unwrap();
    // The last write is awaited first. By then the functions of the others have run.
    assert_eq!(last.await.unwrap(), 3);
    assert_eq!(*seen.lock().unwrap(), [1, 3]);
    first.await.unwrap();
    duplicate.await.unwrap_err();
    panicking.await.unwrap();
}

#[tokio::test]
async fn a_failed_commit_fails_every_job_of_the_batch() {
    let (_directory, db) = fresh();
    let (release, busy) = occupy(&db);
    let good = db.write_then(add("good"), |_: &i64| panic!("runs after a failed commit"));
    let dangling = db.write(|conn| conn.execute("INSERT INTO link VALUES (4711)", []));
    drop(release);
    for lost in [busy.await.err(), good.await.err(), dangling.await.err()] {
        assert!(matches!(lost, Some(Error::Commit(_))), "{lost:?}");
    }
    assert!(db.is_writable(), "a violated constraint is not an I/O error");
    db.write(add("next")).await.unwrap();
    assert_eq!(words(&db).await, ["next"]);
}

#[tokio::test]
async fn a_full_disk_fails_the_batch_and_later_writes_succeed() {
    let (_directory, db) = fresh();
    let limit = |pages: u32| move |conn: &Connection| conn.pragma_update(None, "max_page_count", pages);
    db.write(limit(20)).await.unwrap();
    let (release, busy) = occupy(&db);
    let before = db.write(add("before"));
    let large = db.write(add(&"x".repeat(1 << 20)));
    drop(release);
    let full = large.await.unwrap_err();
    assert!(matches!(&full, Error::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull)));
    // SQLite rolls back either the transaction or only the statement. In both cases the results agree with the store.
    let before = before.await.map_err(|error| error.to_string());
    assert!(before.as_ref().err().is_none_or(|reason| reason.contains("full")), "{before:?}");
    let is_stored = before.is_ok();
    // On a slow machine the blocking job may have a transaction of its own.
    assert!(busy.await.is_ok() || !is_stored);
    assert_eq!(words(&db).await.len(), usize::from(is_stored));
    db.write(limit(20_000)).await.unwrap();
    db.write(add("after")).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_returns_busy_and_a_late_result_returns_timeout() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    let deadline = std::time::Duration::from_millis(50);
    let db = Database::open(&path, Options { queue: 2, deadline, ..Options::new(SCHEMA) }).unwrap();
    let (release, busy) = occupy(&db);
    let waiting = [db.write(add("a")), db.write(add("b"))];
    assert!(matches!(db.write(add("c")).await, Err(Error::Busy)));
    assert!(matches!(busy.await, Err(Error::Timeout)));
    drop(release);
    for write in waiting {
        write.await.unwrap();
    }
    assert_eq!(words(&db).await, ["a", "b"]);
}

#[tokio::test]
async fn a_reader_cannot_write_and_its_panic_fails_one_read() {
    let (_directory, db) = fresh();
    let write = db.read(|conn| conn.execute("INSERT INTO word(text) VALUES ('x')", [])).await;
    assert!(matches!(write, Err(Error::Sqlite(_))), "{write:?}");
    for _ in 0..8 {
        let panicking = db.read(|_| -> embedded::rusqlite::Result<()> { panic!("injected") }).await;
        assert!(matches!(panicking, Err(Error::Panicked)));
    }
    assert!(words(&db).await.is_empty());
}

#[tokio::test]
async fn dropping_the_last_handle_finishes_the_queued_jobs() {
    let (directory, db) = fresh();
    let (release, busy) = occupy(&db);
    let dropped = db.write(add("kept"));
    drop((busy, dropped, release));
    drop(db);
    assert_eq!(log_files(directory.path()), Vec::<String>::new());
    let db = open(directory.path()).unwrap();
    assert_eq!(words(&db).await, ["kept"]);
}

#[tokio::test]
async fn close_leaves_no_log_while_other_handles_exist() {
    let (directory, db) = fresh();
    let (release, busy) = occupy(&db);
    let queued = db.write(add("kept"));
    let other = db.clone();
    let closing = std::thread::spawn(move || db.close());
    drop(release);
    closing.join().unwrap();
    assert_eq!(log_files(directory.path()), Vec::<String>::new());
    busy.await.unwrap();
    queued.await.unwrap();
    assert!(matches!(other.write(add("late")).await, Err(Error::Closed)));
    let db = open(directory.path()).unwrap();
    assert_eq!(words(&db).await, ["kept"]);
}

/// The names of the log and its index, when they exist.
fn log_files(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| name.contains("-")).collect()
}

#[tokio::test]
async fn the_log_is_written_back_while_the_store_runs() {
    let (directory, db) = fresh();
    for number in 0..40 {
        db.write(add(&format!("{number}{}", "x".repeat(300_000)))).await.unwrap();
    }
    let log = directory.path().join(format!("{FILE}-wal")).metadata().unwrap().len();
    let file = directory.path().join(FILE).metadata().unwrap().len();
    assert!(log < 8 << 20, "{log} bytes of log");
    assert!(file > 4 << 20, "{file} bytes of file");
}

#[tokio::test]
async fn the_settings_for_durability_are_enabled() {
    let (_directory, db) = fresh();
    let pragma =
        |name: &'static str| move |conn: &Connection| conn.query_row(name, [], |row| row.get::<_, i64>(0));
    assert_eq!(db.write(pragma("PRAGMA synchronous")).await.unwrap(), 2, "FULL");
    assert_eq!(db.write(pragma("PRAGMA foreign_keys")).await.unwrap(), 1);
    assert_eq!(db.write(pragma("PRAGMA trusted_schema")).await.unwrap(), 0);
    assert_eq!(db.read(pragma("PRAGMA trusted_schema")).await.unwrap(), 0);
    let mode = |conn: &Connection| conn.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
    assert_eq!(db.read(mode).await.unwrap(), "wal");
}

#[tokio::test]
async fn only_the_owner_can_access_the_files() {
    let directory = TempDir::new().unwrap();
    let inner = directory.path().join("a/new/directory");
    let db = open(&inner).unwrap();
    db.write(add("secret")).await.unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for entry in std::fs::read_dir(&inner).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_world_writable_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(open(directory.path()), Err(Error::Exposed(_))));
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    open(directory.path()).unwrap();
}

#[test]
fn a_second_open_is_refused_and_names_the_file() {
    let (directory, db) = fresh();
    let refused = open(directory.path()).err().unwrap();
    assert!(matches!(refused, Error::Locked(_)));
    assert!(refused.to_string().contains(FILE), "{refused}");
    drop(db);
    open(directory.path()).unwrap();
}

#[test]
fn a_second_process_is_refused_and_a_process_that_exited_holds_no_lock() {
    let (directory, db) = fresh();
    let refused = child(directory.path(), "", "opens");
    assert!(String::from_utf8_lossy(&refused.stdout).contains("is in use by another process"), "{refused:?}");
    drop(db);
    let opened = child(directory.path(), "", "opens");
    assert!(opened.status.success(), "{opened:?}");
    // The child exited without closing the store.
    open(directory.path()).unwrap();
}

/// Ways to open the files of an open store beside another lock file: the name, and the shell code that prepares the directory `other`.
const OTHER_NAMES: [(&str, &str); 6] = [
    ("hard links without the lock file", "cp -al data/. other && rm other/*.lock"),
    (
        "hard links with a copy of the lock file",
        "cp -al data/. other && rm other/*.lock && cp data/*.lock other",
    ),
    ("a hard link of the database alone", "ln data/words.sqlite3 other"),
    ("a lock file that was removed", "rm data/*.lock && rmdir other && ln -s data other"),
    (
        "a lock file that was replaced",
        "cp data/*.lock new && mv new data/words.sqlite3.lock && rmdir other && ln -s data other",
    ),
    ("a renamed directory without the lock file", "mv data/* other && rm other/*.lock"),
];

#[tokio::test]
async fn an_open_store_cannot_be_opened_by_another_name() {
    for (what, script) in OTHER_NAMES {
        let root = TempDir::new().unwrap();
        let (data, other) = (root.path().join("data"), root.path().join("other"));
        let db = open(&data).unwrap();
        db.write(add("word")).await.unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o700)).unwrap();
        let prepared = Command::new("sh").arg("-c").arg(script).current_dir(root.path()).status().unwrap();
        assert!(prepared.success(), "{what}");
        for attempt in 0..2 {
            // Also after the refused start has created a lock file.
            let refused = child(&other, "", "opens");
            let printed = String::from_utf8_lossy(&refused.stdout);
            assert!(printed.contains("is in use by another process"), "{what} {attempt}: {printed}");
        }
        // A snapshot of the database without its log cannot be read.
        if other.join(format!("{FILE}-wal")).exists() {
            let snapshot = Snapshot::open(&other.join(FILE)).unwrap();
            assert!(snapshot.is_live(), "{what}: a backup reads an open store");
        }
        drop(db);
        if what == OTHER_NAMES[0].0 {
            let opened = child(&other, "", "opens");
            assert!(opened.status.success(), "{what}: {opened:?}");
        }
    }
}

#[test]
fn a_newer_schema_is_refused_and_not_changed() {
    let (directory, db) = fresh();
    drop(db);
    let path = directory.path().join(FILE);
    let older = Database::open(&path, Options::new(&SCHEMA[..1])).err().unwrap();
    assert!(matches!(older, Error::Newer { found: 2, supported: 1, .. }), "{older}");
    open(directory.path()).unwrap();
}

#[tokio::test]
async fn migrations_are_applied_once_and_a_failing_one_changes_nothing() {
    const BAD: &[&str] = &[SCHEMA[0], "CREATE TABLE extra(x); CREATE TABLE word(x)"];
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    let first = Database::open(&path, Options::new(&SCHEMA[..1])).unwrap();
    first.write(add("old")).await.unwrap();
    drop(first);
    let bad = Database::open(&path, Options::new(BAD)).err().unwrap();
    assert!(matches!(bad, Error::Migration { number: 2, .. }), "{bad}");
    let good = open(directory.path()).unwrap();
    assert_eq!(words(&good).await, ["old"]);
    let tables = |conn: &Connection| {
        conn.query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('extra', 'link')", [], |row| {
            row.get::<_, i64>(0)
        })
    };
    assert_eq!(good.read(tables).await.unwrap(), 1);
}

/// Runs the example `second_process`, which cargo builds with the tests. `prefix` is the shell code before its command line.
fn child(directory: &Path, prefix: &str, command: &str) -> Output {
    let this = std::env::current_exe().unwrap();
    let example = this.parent().and_then(Path::parent).unwrap().join("examples/second_process");
    assert!(example.exists(), "{} is built with the tests", example.display());
    let script = format!("{prefix} exec \"$0\" {command}");
    Command::new("sh").arg("-c").arg(script).arg(example).current_dir(directory).output().unwrap()
}

#[tokio::test]
async fn a_hanging_writer_is_reported_until_it_continues() {
    let (_directory, db) = fresh();
    assert!(db.not_ready_reason().await.is_none());
    let (release, busy) = occupy(&db);
    let hangs = async {
        while db.not_ready_reason().await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), hangs).await.expect("the hang is reported");
    drop(release);
    busy.await.unwrap();
    db.write(add("next")).await.unwrap();
    assert!(db.not_ready_reason().await.is_none());
}

/// The threads that have failed, in the order of their failures.
static FAILED: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[tokio::test]
async fn a_failure_of_the_writer_thread_is_reported() {
    embedded::on_failure(|thread| FAILED.lock().unwrap().push(thread.to_owned()));
    let directory = TempDir::new().unwrap();
    let open = |name: &str| Database::open(&directory.path().join(name), Options::new(SCHEMA)).unwrap();

    let following = open("following.sqlite3");
    following.write_then(add("a"), |_: &i64| panic!("injected")).await.unwrap();
    assert_eq!(*FAILED.lock().unwrap(), ["following-write"]);

    embedded::set_fault_hook(|thread| assert!(thread != "doomed-write", "injected"));
    let doomed = open("doomed.sqlite3");
    assert!(doomed.not_ready_reason().await.is_none());
    assert!(matches!(doomed.write(add("a")).await, Err(Error::Closed)));
    assert!(doomed.not_ready_reason().await.is_some());
    assert!(matches!(doomed.write(add("a")).await, Err(Error::Closed)));
    assert!(words(&doomed).await.is_empty(), "readers continue");
    assert_eq!(*FAILED.lock().unwrap(), ["following-write", "doomed-write"]);
}

/// Blocks the writer of the store `stuck` between two batches until the sender is dropped.
static BETWEEN: Mutex<Option<std::sync::mpsc::Receiver<()>>> = Mutex::new(None);

#[tokio::test]
async fn a_writer_that_takes_no_job_is_reported_without_a_running_batch() {
    embedded::set_fault_hook(|thread| {
        if thread == "stuck-write between" {
            let released = BETWEEN.lock().unwrap().take();
            assert!(released.is_none_or(|released| released.recv().is_err()));
        }
    });
    let directory = TempDir::new().unwrap();
    let db = Database::open(&directory.path().join("stuck.sqlite3"), Options::new(SCHEMA)).unwrap();
    let (held, released) = std::sync::mpsc::channel();
    *BETWEEN.lock().unwrap() = Some(released);
    let waits = db.write(add("a"));
    let hangs = async {
        while db.not_ready_reason().await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), hangs).await.expect("the hang is reported");
    drop(held);
    waits.await.unwrap();
    assert!(db.not_ready_reason().await.is_none());
}

/// Restores an older copy of a store, made while it was closed, in each of the usual ways. Also makes changes that restore no copy.
#[tokio::test]
async fn a_restored_copy_starts_a_new_history_and_the_original_does_not() {
    const RENEWAL: &[&str] = &["INSERT INTO word(text) VALUES ('renewed ' || hex(randomblob(8)))"];
    let options = Options { renewal: RENEWAL, ..Options::new(SCHEMA) };
    for (what, script, is_copy) in [
        ("restarted", "true", false),
        ("renamed", "mv data other && mv other data", false),
        ("copied aside", "cp -a data aside", false),
        ("new rights", "chmod 700 data; chmod 600 data/*", false),
        ("restored after a removal", "rm -r data && cp -a old data", true),
        ("restored into the emptied directory", "rm data/* && cp -a old/. data", true),
        ("restored over it", "cp -a old/. data", true),
        ("restored over it, content only", "cp old/words.sqlite3 data/words.sqlite3", true),
        ("restored by tar", "tar -C old -cf old.tar . && tar -C data -xf old.tar", true),
        ("moved to another directory by a copy", "cp -a data other && rm -r data && mv other data", true),
    ] {
        let root = TempDir::new().unwrap();
        let path = root.path().join("data/words.sqlite3");
        let run = |script: &str| {
            let ran =
                std::process::Command::new("sh").arg("-c").arg(script).current_dir(root.path()).status();
            assert!(ran.unwrap().success(), "{script}");
        };
        for word in ["old", "new"] {
            let db = Database::open(&path, options).unwrap();
            db.write(add(word)).await.unwrap();
            db.close();
            if word == "old" {
                run("cp -a data old");
            }
        }
        run(script);
        for start in ["first", "second"] {
            let db = Database::open(&path, options).unwrap();
            let count = words(&db).await.iter().filter(|word| word.starts_with("renewed")).count();
            assert_eq!(count, usize::from(is_copy), "{what}, {start} start");
            db.close();
        }
    }
}
