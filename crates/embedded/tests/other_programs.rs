//! Other programs that open the store through the locks of SQLite, while it runs and after a crash: an older release, a shell, a
//! backup. Transactions that are in the database are not lost, also without the log. Transactions that are not in it are lost.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use embedded::{Database, Error, Options, Snapshot, rusqlite::Connection};
use tempfile::TempDir;

const SCHEMA: &[&str] = &[
    "CREATE TABLE word(number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
    "CREATE TABLE link(word INTEGER NOT NULL REFERENCES word(number) DEFERRABLE INITIALLY DEFERRED) STRICT",
];

const FILE: &str = "words.sqlite3";

/// The number of words that `dies` stores.
const STORED: usize = 20;

/// A part of the error of a store that has lost transactions.
const LOST: &str = "has lost committed data";

/// A part of the error of a store with the log of another database.
const ANOTHER: &str = "another database";

fn open(directory: &Path) -> Result<Database, Error> {
    Database::open(&part(directory, ""), Options::new(SCHEMA))
}

fn part(directory: &Path, suffix: &str) -> PathBuf {
    directory.join(format!("{FILE}{suffix}"))
}

async fn count(db: &Database) -> usize {
    let count =
        |conn: &Connection| conn.query_row("SELECT count(*) FROM word", [], |row| row.get::<_, i64>(0));
    usize::try_from(db.read(count).await.unwrap()).unwrap()
}

/// Runs the example `second_process` in the directory.
fn child(directory: &Path, arguments: &[&str]) {
    let status = Command::new(example()).args(arguments).current_dir(directory).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

/// A program that holds a lock. Its end releases the lock.
struct Holder(Child);

impl Holder {
    /// Runs the example with these arguments until it holds the lock.
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(example());
        command.args(arguments).current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n", "{arguments:?}");
        Self(child)
    }

    fn name(&self) -> String {
        format!("process {} (second_process)", self.0.id())
    }

    fn release(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn example() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let example = this.parent().and_then(Path::parent).unwrap().join("examples/second_process");
    assert!(example.exists(), "{} is built with the tests", example.display());
    example
}

/// Waits until the reason why the store is not ready is as `expected`.
async fn reason(db: &Database, expected: impl Fn(Option<&str>) -> bool) -> Option<String> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let reason = db.not_ready_reason().await;
        if expected(reason.as_deref()) {
            return reason;
        }
        assert!(Instant::now() < until, "{reason:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A store whose process exited without closing it.
fn killed_store() -> TempDir {
    let directory = TempDir::new().unwrap();
    child(directory.path(), &["dies"]);
    directory
}

/// Runs a statement as another program, which closes the file.
fn sql(directory: &Path, statement: &str) {
    child(directory, &["sql", statement]);
}

/// Runs a statement as another program, which exits without closing the file.
fn sql_and_die(directory: &Path, statement: &str) {
    child(directory, &["sql-and-die", statement]);
}

#[tokio::test]
async fn a_log_that_another_program_has_written_back_is_not_a_loss() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 8] = [
        ("opened and closed", |at| sql(at, "SELECT count(*) FROM word")),
        ("opened and closed, index left", |at| {
            fs::copy(part(at, "-shm"), at.join("index")).unwrap();
            sql(at, "SELECT count(*) FROM word");
            fs::rename(at.join("index"), part(at, "-shm")).unwrap();
        }),
        ("written to and closed", |at| sql(at, "INSERT INTO link VALUES (1)")),
        ("cut to nothing", |at| sql_and_die(at, "PRAGMA wal_checkpoint(TRUNCATE)")),
        ("written back in part", |at| sql_and_die(at, "PRAGMA wal_checkpoint(PASSIVE)")),
        ("another journal mode", |at| sql(at, "PRAGMA journal_mode = DELETE")),
        ("vacuumed", |at| sql(at, "VACUUM")),
        ("vacuumed by a program that dies", |at| sql_and_die(at, "VACUUM")),
    ];
    for (what, change) in changes {
        for first in ["dies", "dies-truncating"] {
            let directory = TempDir::new().unwrap();
            child(directory.path(), &[first]);
            change(directory.path());
            let snapshot = Snapshot::open(&part(directory.path(), "")).unwrap();
            assert_eq!(snapshot.log_fault().unwrap(), None, "{first}, {what}: the check");
            drop(snapshot);
            let db = open(directory.path()).unwrap_or_else(|error| panic!("{first}, {what}: {error}"));
            assert_eq!((count(&db).await, db.lost()), (STORED, false), "{first}, {what}");
        }
    }
}

/// Copies the database file without its log.
fn copy(from: &Path, to: &Path) {
    fs::write(part(to, ""), fs::read(part(from, "")).unwrap()).unwrap();
}

#[tokio::test]
async fn transactions_missing_in_the_database_are_a_loss_for_each_way_to_lose_the_log() {
    type Change = fn(&Path);
    let changes: [(&str, &str, Change); 8] = [
        ("log removed", LOST, |at| fs::remove_file(part(at, "-wal")).unwrap()),
        ("log and index removed", LOST, |at| {
            ["-wal", "-shm"].into_iter().for_each(|suffix| fs::remove_file(part(at, suffix)).unwrap());
        }),
        ("log emptied", LOST, |at| {
            File::options().write(true).open(part(at, "-wal")).unwrap().set_len(0).unwrap();
            fs::remove_file(part(at, "-shm")).unwrap();
        }),
        ("log cut between two transactions", LOST, |at| {
            let log = File::options().read(true).write(true).open(part(at, "-wal")).unwrap();
            log.set_len(commit_before_last(&log)).unwrap();
            fs::remove_file(part(at, "-shm")).unwrap();
        }),
        ("written back into another file", LOST, |at| {
            let before = TempDir::new().unwrap();
            copy(at, before.path());
            sql(at, "SELECT count(*) FROM word");
            copy(before.path(), at);
        }),
        ("copied without its log", LOST, |at| {
            ["-wal", "-shm", ".lock"]
                .into_iter()
                .for_each(|suffix| fs::remove_file(part(at, suffix)).unwrap());
        }),
        ("database replaced by a closed one", ANOTHER, |at| {
            let other = TempDir::new().unwrap();
            drop(open(other.path()).unwrap());
            copy(other.path(), at);
        }),
        ("database replaced by one that died", ANOTHER, |at| copy(killed_store().path(), at)),
    ];
    for (what, expected, change) in changes {
        let directory = killed_store();
        let at = directory.path();
        change(at);
        let snapshot = Snapshot::open(&part(at, "")).unwrap();
        let fault = snapshot.log_fault().unwrap();
        assert!(fault.is_some(), "{what}: the check finds the loss");
        drop(snapshot);
        for start in 1..=2 {
            let refused = open(at).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refused.contains(expected), "{what}, start {start}: {refused:?}");
        }
    }
    // The same without the lock file, which a copied directory may lack.
    let directory = killed_store();
    copy(killed_store().path(), directory.path());
    fs::remove_file(part(directory.path(), ".lock")).unwrap();
    let refused = open(directory.path()).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains(ANOTHER), "{refused:?}");
}

/// The offset of the end of the last transaction but one in the log.
fn commit_before_last(log: &File) -> u64 {
    let frames = (log.metadata().unwrap().len() - 32) / 4_120;
    let commits = |frame: u64| {
        let mut pages = [0; 4];
        log.read_exact_at(&mut pages, 32 + frame * 4_120 + 4).unwrap();
        pages != [0; 4]
    };
    let ends: Vec<u64> = (0..frames).filter(|frame| commits(*frame)).collect();
    32 + (ends[ends.len() - 2] + 1) * 4_120
}

#[tokio::test]
async fn other_programs_may_use_the_store_while_it_runs() {
    let directory = TempDir::new().unwrap();
    let db = open(directory.path()).unwrap();
    let add = |text: String| db.write(move |conn| conn.execute("INSERT INTO word(text) VALUES (?1)", [text]));
    for number in 0..40 {
        add(format!("{number:0>9000}")).await.unwrap();
    }
    db.write(|conn| conn.execute("DELETE FROM word WHERE number > 20", [])).await.unwrap();
    let statements = [
        "SELECT count(*) FROM word",
        "PRAGMA wal_checkpoint(PASSIVE)",
        "PRAGMA wal_checkpoint(FULL)",
        "PRAGMA wal_checkpoint(RESTART)",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "INSERT INTO word(text) VALUES ('another program')",
        "VACUUM INTO 'copy.sqlite3'",
        "VACUUM",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA integrity_check",
    ];
    for (number, statement) in statements.into_iter().enumerate() {
        sql(directory.path(), statement);
        assert_eq!(db.not_ready_reason().await, None, "{statement}");
        add(format!("after {number}")).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert_eq!(db.not_ready_reason().await, None, "{statement}, and a write");
    }
    let all = count(&db).await;
    assert_eq!(all, 20 + 1 + statements.len());
    drop(db);
    assert_eq!(count(&open(directory.path()).unwrap()).await, all);
}

/// The ways in which another program can hold the write lock of an open store.
const WRITE_LOCKS: [(&str, &[&str]); 4] = [
    ("a transaction", &["sql-and-hold", "BEGIN IMMEDIATE"]),
    ("an exclusive transaction", &["sql-and-hold", "BEGIN EXCLUSIVE"]),
    (
        "a transaction with a change",
        &["sql-and-hold", "BEGIN; INSERT INTO word(text) VALUES ('uncommitted')"],
    ),
    ("a program without SQLite", &["locks", "-shm", "0", "122"]),
];

#[tokio::test]
async fn a_write_lock_of_another_program_is_reported_until_it_ends_with_and_without_traffic() {
    for (what, arguments) in WRITE_LOCKS {
        for has_traffic in [true, false] {
            let what = format!("{what}, traffic: {has_traffic}");
            let directory = TempDir::new().unwrap();
            let db = open(directory.path()).unwrap();
            let add = |text: String| {
                db.write(move |conn| conn.execute("INSERT INTO word(text) VALUES (?1)", [text]))
            };
            add("before".to_owned()).await.unwrap();
            let holder = Holder::start(directory.path(), arguments);
            if has_traffic {
                // All of them wait for the lock at the same time.
                let refused: Vec<_> = (0..9).map(|number| tokio::spawn(add(number.to_string()))).collect();
                for refused in refused {
                    let refused = refused.await.unwrap();
                    assert!(matches!(refused, Err(Error::Commit(_))), "{what}: {refused:?}");
                }
            }
            let reason_text = reason(&db, |reason| reason.is_some()).await.unwrap();
            let file = part(directory.path(), "").display().to_string();
            for words in ["cannot be written", &holder.name(), &file, "end its transaction"] {
                assert!(reason_text.contains(words), "{what}: {words} is not in {reason_text}");
            }
            assert_eq!(count(&db).await, 1, "{what}: reads are served");
            holder.release();
            reason(&db, |reason| reason.is_none()).await;
            add("after".to_owned()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(count(&db).await, 2, "{what}: a refused write is not stored");
        }
    }
}

#[tokio::test]
async fn a_start_on_a_locked_store_names_the_program_and_succeeds_after_its_end() {
    let exclusive = "PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT";
    // What another program does, and whether the store can be read meanwhile, as by a backup.
    let cases = [
        ("BEGIN IMMEDIATE", true),
        ("BEGIN; INSERT INTO word(text) VALUES ('uncommitted')", true),
        (exclusive, false),
    ];
    for (statements, is_readable) in cases {
        for is_closed in [true, false] {
            let what = format!("{statements}, closed: {is_closed}");
            let directory = killed_store();
            if is_closed {
                drop(open(directory.path()).unwrap());
            }
            let holder = Holder::start(directory.path(), &["sql-and-hold", statements]);
            let refused = open(directory.path()).err().map(|error| error.to_string()).unwrap_or_default();
            for words in [holder.name(), "end its transaction".to_owned()] {
                assert!(refused.contains(&words), "{what}: {words} is not in {refused:?}");
            }
            match Snapshot::open(&part(directory.path(), "")) {
                Ok(_) => assert!(is_readable || is_closed, "{what}"),
                Err(error) => {
                    assert!(!is_readable && error.to_string().contains(&holder.name()), "{what}: {error}")
                }
            }
            holder.release();
            let db = open(directory.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!((count(&db).await, db.lost()), (STORED, false), "{what}");
        }
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_a_lock_during_the_close() {
    for (what, arguments) in
        WRITE_LOCKS.into_iter().chain([("a read", &["sql-and-hold", "BEGIN; SELECT count(*) FROM word"][..])])
    {
        let directory = TempDir::new().unwrap();
        let db = open(directory.path()).unwrap();
        for number in 0..STORED {
            let add = move |conn: &Connection| {
                conn.execute("INSERT INTO word(text) VALUES (?1)", [number.to_string()])
            };
            db.write(add).await.unwrap();
        }
        let holder = Holder::start(directory.path(), arguments);
        // Queued during the close. It may be refused.
        let last = db.write(|conn| conn.execute("INSERT INTO word(text) VALUES ('last')", []));
        db.close();
        let is_stored = last.await.is_ok();
        holder.release();
        for start in 1..=2 {
            let db = open(directory.path()).unwrap_or_else(|error| panic!("{what}, start {start}: {error}"));
            assert_eq!(
                (count(&db).await, db.lost()),
                (STORED + usize::from(is_stored), false),
                "{what}, start {start}"
            );
        }
    }
}

/// A store of which only one of the two marks is removed at its end is taken for one that has lost transactions.
#[tokio::test]
async fn a_store_that_cannot_be_marked_as_closed_is_not_taken_for_a_loss() {
    for key in ["open", "commits"] {
        let directory = TempDir::new().unwrap();
        let db = open(directory.path()).unwrap();
        let refuse = format!(
            "CREATE TRIGGER refuse BEFORE DELETE ON store_state WHEN OLD.key = '{key}'
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        );
        db.write(|conn| conn.execute("INSERT INTO word(text) VALUES ('acked')", [])).await.unwrap();
        db.write(move |conn| conn.execute_batch(&refuse)).await.unwrap();
        drop(db);
        let refused = open(directory.path()).map(drop).unwrap_err().to_string();
        assert!(refused.contains("DROP TRIGGER refuse"), "{key}: {refused}");
        sql(directory.path(), "DROP TRIGGER refuse");
        let db = open(directory.path()).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!((count(&db).await, db.lost()), (1, false), "{key}");
    }
}

/// Changes of the tables by another program: the statement, the statement that undoes it, and a part of the cause.
const CHANGES: [(&str, &str, &str); 5] = [
    ("ALTER TABLE link RENAME TO lost", "ALTER TABLE lost RENAME TO link", "the table link is missing"),
    (
        "ALTER TABLE store_state RENAME TO s",
        "ALTER TABLE s RENAME TO store_state",
        "the table store_state is missing",
    ),
    ("DROP INDEX by_word", "CREATE INDEX by_word ON link(word)", "the index by_word is missing"),
    (
        "CREATE TRIGGER refuse BEFORE INSERT ON word BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "DROP TRIGGER refuse",
        "DROP TRIGGER refuse",
    ),
    (
        "CREATE TRIGGER vanish AFTER INSERT ON word BEGIN DELETE FROM word WHERE number = NEW.number; END",
        "DROP TRIGGER vanish",
        "DROP TRIGGER vanish",
    ),
];

/// A change is detected by the next transaction, also without a job. Nothing is acknowledged until it is undone. A start is refused.
#[tokio::test]
async fn a_store_whose_tables_another_program_has_changed_refuses_writes_and_names_the_change() {
    const MIGRATIONS: &[&str] = &[SCHEMA[0], SCHEMA[1], "CREATE INDEX by_word ON link(word)"];
    for (change, undo, cause) in CHANGES {
        let directory = TempDir::new().unwrap();
        let open = || Database::open(&part(directory.path(), ""), Options::new(MIGRATIONS));
        let db = open().unwrap();
        let add = || db.write(|conn| conn.execute("INSERT INTO word(text) VALUES (hex(randomblob(8)))", []));
        add().await.unwrap();
        sql(directory.path(), "CREATE TABLE other(x)");
        add().await.expect("a table of another program is no fault");
        sql(directory.path(), change);
        let refused = add().await.unwrap_err().to_string();
        assert!(refused.contains(cause), "{change}: {refused}");
        let until = Instant::now() + Duration::from_secs(30);
        let mut reason = None;
        while !reason.as_ref().is_some_and(|reason: &String| reason.contains(cause)) {
            assert!(Instant::now() < until, "{change}: {reason:?}");
            reason = db.not_ready_reason().await;
            tokio::task::yield_now().await;
        }
        sql(directory.path(), undo);
        while db.not_ready_reason().await.is_some() {
            assert!(Instant::now() < until, "{undo}");
            tokio::task::yield_now().await;
        }
        add().await.unwrap();
        assert_eq!(count(&db).await, 3, "{change}");
        drop(db);
        sql(directory.path(), change);
        if !change.contains("store_state") {
            let refused = open().map(drop).unwrap_err().to_string();
            assert!(refused.contains(cause), "{change}: {refused}");
        }
        sql(directory.path(), undo);
        assert_eq!(count(&open().unwrap()).await, 3, "{change}");
    }
}

/// `close` drops all locks of a process on a file, so the check of the files must not open and close the index. Without the locks
/// another program takes the index for that of a crashed process, and truncates it.
#[tokio::test]
async fn the_locks_of_an_open_store_stay_when_its_files_are_checked() {
    use std::os::unix::fs::MetadataExt;
    let directory = TempDir::new().unwrap();
    let db = open(directory.path()).unwrap();
    let index = fs::metadata(part(directory.path(), "-shm")).unwrap().ino();
    let has_lock = || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let (process, inode) = (format!(" {} ", std::process::id()), format!(":{index} "));
        locks.lines().any(|line| line.contains(&process) && line.contains(&inode))
    };
    for statement in ["PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        db.write(|conn| conn.execute("INSERT OR IGNORE INTO word(text) VALUES ('again')", [])).await.unwrap();
        assert!(has_lock(), "{statement}: before");
        sql(directory.path(), statement);
        assert_eq!(db.not_ready_reason().await, None, "{statement}");
        assert!(has_lock(), "{statement}: after the check of the files");
    }
}
