//! Other programs that open the store, through SQLite's own locks, while it runs and after a crash: an older release, a shell, a
//! backup. What is in the database is no loss, wherever the log is; what is not in it is.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use embedded::{Database, Error, Options, Snapshot, rusqlite::Connection};
use tempfile::TempDir;

const SCHEMA: &[&str] = &[
    "CREATE TABLE word(number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
    "CREATE TABLE link(word INTEGER NOT NULL REFERENCES word(number) DEFERRABLE INITIALLY DEFERRED) STRICT",
];

const FILE: &str = "words.sqlite3";

/// Words that `dies` stores.
const STORED: usize = 20;

/// The refusal of a store that lacks something, and of one whose log is another's.
const LOST: &str = "has lost committed data";
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
    let this = std::env::current_exe().unwrap();
    let example = this.parent().and_then(Path::parent).unwrap().join("examples/second_process");
    assert!(example.exists(), "{} is built with the tests", example.display());
    let status = Command::new(example).args(arguments).current_dir(directory).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

/// A store whose process has died.
fn dead() -> TempDir {
    let directory = TempDir::new().unwrap();
    child(directory.path(), &["dies"]);
    directory
}

/// Another program runs a statement and closes the file, or dies.
fn sql(directory: &Path, statement: &str) {
    child(directory, &["sql", statement]);
}

fn sql_and_die(directory: &Path, statement: &str) {
    child(directory, &["sql-and-die", statement]);
}

#[tokio::test]
async fn a_log_that_another_program_has_written_back_is_no_loss() {
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

/// Copies the database alone.
fn copy(from: &Path, to: &Path) {
    fs::write(part(to, ""), fs::read(part(from, "")).unwrap()).unwrap();
}

#[tokio::test]
async fn what_is_not_in_the_database_is_lost_however_the_log_went() {
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
        ("database replaced by one that died", ANOTHER, |at| copy(dead().path(), at)),
    ];
    for (what, expected, change) in changes {
        let directory = dead();
        let at = directory.path();
        change(at);
        let snapshot = Snapshot::open(&part(at, "")).unwrap();
        let fault = snapshot.log_fault().unwrap();
        assert!(fault.is_some(), "{what}: the check finds nothing");
        drop(snapshot);
        for start in 1..=2 {
            let refused = open(at).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refused.contains(expected), "{what}, start {start}: {refused:?}");
        }
    }
    // The same without the lock file, which a copy of a directory need not have.
    let directory = dead();
    copy(dead().path(), directory.path());
    fs::remove_file(part(directory.path(), ".lock")).unwrap();
    let refused = open(directory.path()).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains(ANOTHER), "{refused:?}");
}

/// Where the last transaction of the log but one ends.
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
