//! A second process for the tests, with the store in the working directory:
//!
//! - `opens` opens the store and exits without closing it.
//! - `ends` opens and closes it.
//! - `writes-and-ends` opens it, writes some words and closes it.
//! - `writes` writes until a write fails and prints the results.
//! - `dies` writes some words and exits without closing the store.
//! - `dies-truncating` does the same while another program empties the log.
//! - `sql STATEMENT` runs the statement as another program and closes the file.
//! - `sql-and-hold STATEMENTS` runs the statements, prints `held`, and closes the file when standard input ends.
//! - `locks SUFFIX FIRST LAST` locks these bytes of a file of the store without SQLite, prints `held`, and ends with standard input.
//! - `sql-and-die STATEMENT` runs the statement and does not close the file.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{fs::File, io::Read, path::Path, process::ExitCode};

use embedded::{Database, Error, Options, rusqlite::Connection};
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
};

const SCHEMA: &[&str] = &[
    "CREATE TABLE word(number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
    "CREATE TABLE link(word INTEGER NOT NULL REFERENCES word(number) DEFERRABLE INITIALLY DEFERRED) STRICT",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command @ ("sql" | "sql-and-die" | "sql-and-hold"), statement] =
        &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        let conn = Connection::open("words.sqlite3").unwrap();
        if *command != "sql-and-hold" {
            run(&conn, statement);
        }
        if *command == "sql-and-hold" {
            conn.execute_batch(statement).unwrap();
            hold();
        }
        if *command != "sql-and-die" {
            conn.close().unwrap();
        }
        std::process::exit(0)
    }
    if let [command, suffix, first, last] = &arguments[..]
        && command == "locks"
    {
        lock_and_hold(suffix, first.parse().unwrap(), last.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let db = match Database::open(Path::new("words.sqlite3"), Options::new(SCHEMA)) {
        Ok(db) => db,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match std::env::args().nth(1).as_deref() {
        Some("writes") => runtime.block_on(write_until_refused(&db)),
        Some(command @ ("dies" | "dies-truncating")) => runtime.block_on(async {
            for number in 0..20 {
                // Each word spans several frames.
                db.write(add(format!("{number:0>9000}"))).await.unwrap();
                if number == 10 && command == "dies-truncating" {
                    let other = Connection::open("words.sqlite3").unwrap();
                    run(&other, "PRAGMA wal_checkpoint(TRUNCATE)");
                }
            }
        }),
        Some(command @ ("ends" | "writes-and-ends")) => {
            for number in 0..3 {
                if command == "writes-and-ends" {
                    runtime.block_on(db.write(add(format!("{number:0>9000}")))).unwrap();
                }
            }
            db.close();
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    // `exit` runs no destructors, so the store is not closed.
    std::process::exit(0)
}

/// Locks the bytes from `first` to `last` of a file of the store until the end of standard input.
fn lock_and_hold(suffix: &str, first: i64, last: i64) {
    let file = File::options().read(true).write(true).open(format!("words.sqlite3{suffix}")).unwrap();
    let lock = libc::flock {
        l_type: libc::F_RDLCK.try_into().unwrap(),
        l_whence: libc::SEEK_SET.try_into().unwrap(),
        l_start: first,
        l_len: last - first + 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLKW(&lock)).unwrap();
    hold();
}

/// Waits for the end of standard input.
fn hold() {
    println!("held");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Runs a statement to completion and discards its rows.
fn run(conn: &Connection, statement: &str) {
    let mut statement = conn.prepare(statement).unwrap();
    let mut rows = statement.query([]).unwrap();
    while rows.next().unwrap().is_some() {}
}

fn add(text: String) -> impl FnOnce(&Connection) -> embedded::rusqlite::Result<usize> + Send + 'static {
    move |conn| conn.execute("INSERT INTO word(text) VALUES (?1)", [text])
}

async fn reason(db: &Database) -> String {
    db.not_ready_reason().await.unwrap_or_else(|| "none".to_owned())
}

/// Prints a line for every acknowledged write, then the reason why the store is not ready, and whether it accepts writes again.
async fn write_until_refused(db: &Database) {
    let mut failed = None;
    for number in 0..500 {
        match db.write(add(format!("{number:0>20000}"))).await {
            Ok(_) => println!("acked {number}"),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let failed = failed.expect("a write fails");
    assert!(matches!(failed, Error::Commit(_) | Error::Sqlite(_)), "{failed}");
    println!("reason {}", reason(db).await);
    println!("writable {}", db.is_writable());
    let small = db.write(add("small".to_owned())).await;
    println!("again {}", small.map_or_else(|error| error.to_string(), |_| "stored".to_owned()));
    println!("finally {}", reason(db).await);
    let count =
        |conn: &Connection| conn.query_row("SELECT count(*) FROM word", [], |row| row.get::<_, i64>(0));
    println!("reads {}", db.read(count).await.unwrap());
}
