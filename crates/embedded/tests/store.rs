//! The public interface of the store, with real files and threads.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use embedded::{
    Database, Error, Options,
    rusqlite::{self, Connection, ErrorCode},
};
use tempfile::TempDir;

const SCHEMA: &str = "
    CREATE TABLE word(number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE link(word INTEGER NOT NULL REFERENCES word(number) DEFERRABLE INITIALLY DEFERRED) STRICT;
";

const FILE: &str = "words.sqlite3";

fn open(directory: &Path) -> Result<Database, Error> {
    Database::open(&directory.join(FILE), Options::new(SCHEMA))
}

fn fresh() -> (TempDir, Database) {
    let directory = TempDir::new().unwrap();
    let db = open(directory.path()).unwrap();
    (directory, db)
}

fn add(text: &str) -> impl FnOnce(&Connection) -> rusqlite::Result<i64> + Send + 'static {
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
    let panicking = db.write(|conn| -> rusqlite::Result<()> {
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
    let deadline = Duration::from_millis(50);
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
        let panicking = db.read(|_| -> rusqlite::Result<()> { panic!("injected") }).await;
        assert!(matches!(panicking, Err(Error::Panicked)));
    }
    assert!(words(&db).await.is_empty());
}

#[tokio::test]
async fn close_finishes_the_queued_jobs_and_leaves_no_log_while_other_handles_exist() {
    let (directory, db) = fresh();
    let (release, busy) = occupy(&db);
    let queued = db.write(add("kept"));
    let other = db.clone();
    let closing = std::thread::spawn(move || db.close());
    drop(release);
    closing.join().unwrap();
    let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), [FILE]);
    busy.await.unwrap();
    queued.await.unwrap();
    assert!(matches!(other.write(add("late")).await, Err(Error::Closed)));
    assert_eq!(words(&open(directory.path()).unwrap()).await, ["kept"]);
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
    let mode = |conn: &Connection| conn.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
    assert_eq!(db.read(mode).await.unwrap(), "wal");
}

#[tokio::test]
async fn only_the_owner_can_access_the_files_and_one_holder_the_directory() {
    let root = TempDir::new().unwrap();
    let directory = root.path().join("a/new/directory");
    let lock = embedded::lock(&directory).unwrap();
    let refused = embedded::lock(&directory).unwrap_err().to_string();
    assert!(refused.contains("a/new/directory: it is in use by another process"), "{refused}");
    let db = open(&directory).unwrap();
    db.write(add("secret")).await.unwrap();
    embedded::copy(&directory.join(FILE), &directory.join("copy")).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(lock);
    embedded::lock(&directory).unwrap();
}

#[test]
fn another_schema_and_a_file_of_another_kind_are_refused_with_the_path() {
    let (directory, db) = fresh();
    drop(db);
    let path = directory.path().join(FILE);
    let conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "user_version", 2).unwrap();
    conn.close().unwrap();
    let refused = open(directory.path()).err().unwrap().to_string();
    assert!(refused.contains(FILE) && refused.contains("has schema 2"), "{refused}");
    fs::write(&path, "no database. ".repeat(100)).unwrap();
    let refused = open(directory.path()).err().unwrap().to_string();
    assert!(refused.contains(FILE) && refused.contains("not a database"), "{refused}");
}

#[tokio::test]
async fn writes_are_not_acknowledged_once_the_directory_is_removed() {
    let root = TempDir::new().unwrap();
    let at = root.path().join("data");
    fs::create_dir(&at).unwrap();
    let db = open(&at).unwrap();
    db.ping().await.unwrap();
    let removed = at.clone();
    let during = db.write(move |conn| {
        let stored = conn.execute("INSERT INTO word(text) VALUES ('lost')", []);
        fs::remove_dir_all(removed).unwrap();
        stored
    });
    assert!(matches!(during.await, Err(Error::Gone)));
    assert!(matches!(db.write(add("later")).await, Err(Error::Gone)));
    assert!(db.ping().await.is_err());
}

#[tokio::test]
async fn a_copy_of_an_open_store_has_all_earlier_writes_and_checks_show_damage() {
    let (directory, db) = fresh();
    let (from, to) = (directory.path().join(FILE), directory.path().join("copy.sqlite3"));
    let text = "x".repeat(100_000);
    db.write(add(&text)).await.unwrap();
    embedded::copy(&from, &to).unwrap();
    assert!(embedded::copy(&from, &to).is_err(), "it exists");
    db.write(add("later")).await.unwrap();
    let copy = Database::open(&to, Options::new(SCHEMA)).unwrap();
    assert_eq!(words(&copy).await, [text]);
    for (path, count) in [(&from, 2), (&to, 1)] {
        let checked = embedded::check(path).unwrap();
        assert_eq!(checked.faults, [""; 0]);
        assert_eq!(checked.counts, [("link".to_owned(), 0), ("word".to_owned(), count)]);
    }
    drop(copy);
    let mut bytes = fs::read(&to).unwrap();
    bytes[4_096..5_000].fill(0x55);
    fs::write(&to, bytes).unwrap();
    assert!(embedded::check(&to).map_or(true, |checked| !checked.faults.is_empty()));
    assert!(embedded::check(&directory.path().join("absent")).is_err());
}

/// The name of the test that runs in a process of its own, and the variable with its directory.
const CHILD: (&str, &str) = ("child_that_writes_until_a_write_is_refused", "EMBEDDED_TEST_DIRECTORY");

/// Prints each acked write, and whether a later one is stored after a refused one.
#[tokio::test]
async fn child_that_writes_until_a_write_is_refused() {
    let Some(directory) = std::env::var_os(CHILD.1) else { return };
    let db = open(directory.as_ref()).unwrap();
    for number in 0..60 {
        match db.write(add(&format!("{number}"))).await {
            Ok(_) => println!("acked"),
            Err(error) => println!("refused: {error}"),
        }
    }
    // A process that ends without closing its stores, as after a failed fsync.
    std::process::exit(0);
}

#[tokio::test]
async fn a_failed_write_is_refused_alone_and_a_failed_fsync_is_the_last_one() {
    let faults = [
        ("pwrite64:error=ENOSPC:when=60", "database or disk is full", true),
        ("pwrite64:error=EDQUOT:when=60", "disk I/O error", true),
        ("fdatasync,fsync:error=EIO:when=30", "disk I/O error", false),
    ];
    for (fault, text, goes_on) in faults {
        let directory = TempDir::new().unwrap();
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64,fdatasync,fsync"])
            .args(["-e", &format!("inject={fault}")])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", CHILD.0, "--nocapture"])
            .env(CHILD.1, directory.path())
            .output()
            .expect("strace is installed");
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = || output.lines().filter(|line| line.contains("acked") || line.contains("refused"));
        let acked = lines().filter(|line| line.contains("acked")).count();
        let first = lines().position(|line| line.contains("refused")).expect("a refused write");
        assert!(lines().any(|line| line.contains(text)), "{fault}: {output}");
        assert_eq!(acked > first, goes_on, "{fault}: {output}");
        let stored = words(&open(directory.path()).unwrap()).await.len();
        assert!(acked > 0 && stored >= acked, "{fault}: {stored} of {acked} acked");
    }
}
