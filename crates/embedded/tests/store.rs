//! The store as its users see it: real files, real threads. Where a test needs a second process, the
//! example of that name is it.
#![allow(clippy::unwrap_used)]

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex, mpsc},
};

use embedded::{
    Database, Error, Options,
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

/// Keeps the writer busy until the sender is dropped, and only answers once it is.
fn occupy(db: &Database) -> (mpsc::Sender<()>, impl Future<Output = Result<(), Error>> + use<>) {
    let ((stay, until), (here, began)) = (mpsc::channel::<()>(), mpsc::channel());
    let busy = db.write(move |_| {
        here.send(()).unwrap();
        let _ = until.recv();
        Ok(())
    });
    began.recv().unwrap();
    (stay, busy)
}

#[tokio::test]
async fn writes_are_done_in_the_order_of_the_calls_and_seen_by_later_reads() {
    let (_directory, db) = fresh();
    let (stay, busy) = occupy(&db);
    let texts: Vec<String> = (0..700).map(|number| format!("word {number}")).collect();
    let writes: Vec<_> = texts.iter().map(|text| db.write(add(text))).collect();
    drop(stay);
    busy.await.unwrap();
    for (number, write) in (1..).zip(writes) {
        assert_eq!(write.await.unwrap(), number);
    }
    assert_eq!(words(&db).await, texts);
}

#[tokio::test]
async fn a_failing_job_is_undone_alone() {
    let (_directory, db) = fresh();
    let (stay, busy) = occupy(&db);
    let before = db.write(add("before"));
    let failing = db.write(|conn| {
        conn.execute("INSERT INTO word(text) VALUES ('half')", [])?;
        conn.execute("INSERT INTO word(text) VALUES ('half')", [])
    });
    let panicking = db.write(|conn| -> embedded::rusqlite::Result<()> {
        conn.execute("INSERT INTO word(text) VALUES ('panic')", [])?;
        panic!("a planted fault")
    });
    let after = db.write(add("after"));
    drop(stay);
    busy.await.unwrap();
    before.await.unwrap();
    assert!(matches!(failing.await, Err(Error::Sqlite(_))));
    assert!(matches!(panicking.await, Err(Error::Panicked)));
    after.await.unwrap();
    assert_eq!(words(&db).await, ["before", "after"]);
}

#[tokio::test]
async fn what_follows_a_commit_happens_in_commit_order_and_before_the_answer() {
    let (_directory, db) = fresh();
    let (stay, busy) = occupy(&db);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |seen: &Arc<Mutex<Vec<i64>>>| {
        let seen = seen.clone();
        move |number: &i64| seen.lock().unwrap().push(*number)
    };
    let first = db.write_then(add("a"), note(&seen));
    let twin = db.write_then(add("a"), note(&seen));
    let loud = db.write_then(add("b"), |_: &i64| panic!("a planted fault"));
    let last = db.write_then(add("c"), note(&seen));
    drop(stay);
    busy.await.unwrap();
    // The last is asked first: by then the others have been followed up.
    assert_eq!(last.await.unwrap(), 3);
    assert_eq!(*seen.lock().unwrap(), [1, 3]);
    first.await.unwrap();
    twin.await.unwrap_err();
    loud.await.unwrap();
}

#[tokio::test]
async fn a_commit_that_fails_answers_every_job_of_the_batch_with_an_error() {
    let (_directory, db) = fresh();
    let (stay, busy) = occupy(&db);
    let good = db.write_then(add("good"), |_: &i64| panic!("nothing follows a failed commit"));
    let dangling = db.write(|conn| conn.execute("INSERT INTO link VALUES (4711)", []));
    drop(stay);
    for lost in [busy.await.err(), good.await.err(), dangling.await.err()] {
        assert!(matches!(lost, Some(Error::Commit(_))), "{lost:?}");
    }
    assert!(db.is_writable(), "a broken rule is not an I/O error");
    db.write(add("next")).await.unwrap();
    assert_eq!(words(&db).await, ["next"]);
}

#[tokio::test]
async fn a_full_disk_fails_the_batch_and_the_next_one_is_tried_again() {
    let (_directory, db) = fresh();
    let limit = |pages: u32| move |conn: &Connection| conn.pragma_update(None, "max_page_count", pages);
    db.write(limit(20)).await.unwrap();
    let (stay, busy) = occupy(&db);
    let before = db.write(add("before"));
    let large = db.write(add(&"x".repeat(1 << 20)));
    drop(stay);
    let full = large.await.unwrap_err();
    assert!(matches!(&full, Error::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull)));
    // Whether SQLite gave up the transaction or only the statement, the answers and the store agree.
    let before = before.await.map_err(|error| error.to_string());
    assert!(before.as_ref().err().is_none_or(|reason| reason.contains("full")), "{before:?}");
    let kept = before.is_ok();
    // On a slow machine that one may have had a transaction of its own.
    assert!(busy.await.is_ok() || !kept);
    assert_eq!(words(&db).await.len(), usize::from(kept));
    db.write(limit(20_000)).await.unwrap();
    db.write(add("after")).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_answers_busy_and_a_late_answer_timeout() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    let deadline = std::time::Duration::from_millis(50);
    let db = Database::open(&path, Options { queue: 2, deadline, ..Options::new(SCHEMA) }).unwrap();
    let (stay, busy) = occupy(&db);
    let waiting = [db.write(add("a")), db.write(add("b"))];
    assert!(matches!(db.write(add("c")).await, Err(Error::Busy)));
    assert!(matches!(busy.await, Err(Error::Timeout)));
    drop(stay);
    for write in waiting {
        write.await.unwrap();
    }
    assert_eq!(words(&db).await, ["a", "b"]);
}

#[tokio::test]
async fn a_reader_cannot_write_and_its_panic_harms_nobody() {
    let (_directory, db) = fresh();
    let sneaky = db.read(|conn| conn.execute("INSERT INTO word(text) VALUES ('x')", [])).await;
    assert!(matches!(sneaky, Err(Error::Sqlite(_))), "{sneaky:?}");
    for _ in 0..8 {
        let panicking = db.read(|_| -> embedded::rusqlite::Result<()> { panic!("a planted fault") }).await;
        assert!(matches!(panicking, Err(Error::Panicked)));
    }
    assert!(words(&db).await.is_empty());
}

#[tokio::test]
async fn the_last_handle_finishes_what_is_queued_and_the_data_is_there_again() {
    let (directory, db) = fresh();
    let (stay, busy) = occupy(&db);
    let unasked = db.write(add("kept"));
    drop((busy, unasked, stay));
    drop(db);
    assert_eq!(left_beside(directory.path()), Vec::<String>::new());
    let again = open(directory.path()).unwrap();
    assert_eq!(words(&again).await, ["kept"]);
}

#[tokio::test]
async fn a_close_leaves_no_log_even_while_others_hold_handles() {
    let (directory, db) = fresh();
    let (stay, busy) = occupy(&db);
    let queued = db.write(add("kept"));
    let other = db.clone();
    let closing = std::thread::spawn(move || db.close());
    drop(stay);
    closing.join().unwrap();
    assert_eq!(left_beside(directory.path()), Vec::<String>::new());
    busy.await.unwrap();
    queued.await.unwrap();
    assert!(matches!(other.write(add("late")).await, Err(Error::Closed)));
    let again = open(directory.path()).unwrap();
    assert_eq!(words(&again).await, ["kept"]);
}

/// The log and its index, as far as they are there.
fn left_beside(directory: &Path) -> Vec<String> {
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
async fn settings_that_durability_needs_are_on() {
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
async fn nobody_else_may_read_the_files() {
    let directory = TempDir::new().unwrap();
    let inner = directory.path().join("made/for/it");
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
fn a_directory_that_everybody_may_write_to_is_refused() {
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
fn a_second_process_is_refused_and_a_dead_one_is_not_waited_for() {
    let (directory, db) = fresh();
    let refused = child(directory.path(), "", "opens");
    assert!(String::from_utf8_lossy(&refused.stdout).contains("is in use by another process"), "{refused:?}");
    drop(db);
    let opened = child(directory.path(), "", "opens");
    assert!(opened.status.success(), "{opened:?}");
    // That child ended without closing anything.
    open(directory.path()).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (directory, db) = fresh();
    drop(db);
    let path = directory.path().join(FILE);
    let older = Database::open(&path, Options::new(&SCHEMA[..1])).err().unwrap();
    assert!(matches!(older, Error::Newer { found: 2, known: 1, .. }), "{older}");
    open(directory.path()).unwrap();
}

#[tokio::test]
async fn migrations_are_each_applied_once_and_a_bad_one_changes_nothing() {
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

/// Runs the example `second_process`, which cargo builds with the tests.
fn child(directory: &Path, before: &str, what: &str) -> Output {
    let this = std::env::current_exe().unwrap();
    let example = this.parent().and_then(Path::parent).unwrap().join("examples/second_process");
    assert!(example.exists(), "{} is built with the tests", example.display());
    let script = format!("{before} exec \"$0\" {what}");
    Command::new("sh").arg("-c").arg(script).arg(example).current_dir(directory).output().unwrap()
}

#[tokio::test]
async fn a_writer_that_hangs_or_has_ended_takes_no_writes() {
    let (_directory, db) = fresh();
    assert!(db.not_ready_reason().await.is_none());
    let (stay, busy) = occupy(&db);
    let hangs = async {
        while db.not_ready_reason().await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), hangs).await.expect("a hang is noticed");
    drop(stay);
    busy.await.unwrap();
    db.write(add("next")).await.unwrap();
    assert!(db.not_ready_reason().await.is_none());
}

/// Threads that have failed, in the order of their failures.
static FAILED: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[tokio::test]
async fn a_failure_on_the_writers_thread_is_reported() {
    embedded::on_failure(|thread| FAILED.lock().unwrap().push(thread.to_owned()));
    let directory = TempDir::new().unwrap();
    let open = |name: &str| Database::open(&directory.path().join(name), Options::new(SCHEMA)).unwrap();

    let following = open("following.sqlite3");
    following.write_then(add("a"), |_: &i64| panic!("a planted fault")).await.unwrap();
    assert_eq!(*FAILED.lock().unwrap(), ["following-write"]);

    embedded::set_fault_hook(|thread| assert!(thread != "doomed-write", "a planted fault"));
    let doomed = open("doomed.sqlite3");
    assert!(doomed.not_ready_reason().await.is_none());
    assert!(matches!(doomed.write(add("a")).await, Err(Error::Closed)));
    assert!(doomed.not_ready_reason().await.is_some());
    assert!(matches!(doomed.write(add("a")).await, Err(Error::Closed)));
    assert!(words(&doomed).await.is_empty(), "readers go on");
    assert_eq!(*FAILED.lock().unwrap(), ["following-write", "doomed-write"]);
}

/// Keeps the writer of the store `stuck` between two batches until its sender is dropped.
static BETWEEN: Mutex<Option<std::sync::mpsc::Receiver<()>>> = Mutex::new(None);

#[tokio::test]
async fn a_writer_that_takes_no_job_is_noticed_although_no_batch_is_under_way() {
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
    tokio::time::timeout(std::time::Duration::from_secs(20), hangs).await.expect("a hang is noticed");
    drop(held);
    waits.await.unwrap();
    assert!(db.not_ready_reason().await.is_none());
}

/// Puts an older copy of a store, made while it was closed, back in each of the ways that people use, and in ways that are none.
#[tokio::test]
async fn an_older_copy_begins_a_new_history_and_the_store_itself_does_not() {
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
