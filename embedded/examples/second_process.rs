//! A second process for the tests: `opens` opens the store in the working directory and dies without closing it; `writes`
//! writes until the disk fails, prints a line for every answer, and checks that nothing is believed after that.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{path::Path, process::ExitCode};

use embedded::{Database, Error, Options, rusqlite::Connection};

const SCHEMA: &[&str] = &[
    "CREATE TABLE word(number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
    "CREATE TABLE link(word INTEGER NOT NULL REFERENCES word(number) DEFERRABLE INITIALLY DEFERRED) STRICT",
];

fn main() -> ExitCode {
    let db = match Database::open(Path::new("words.sqlite3"), Options::new(SCHEMA)) {
        Ok(db) => db,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match std::env::args().nth(1).as_deref() {
        Some("writes") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(write_until_an_io_error(&db));
        }
        _ => std::mem::forget(db),
    }
    // Without running destructors: nothing is closed.
    std::process::exit(0)
}

fn add(text: String) -> impl FnOnce(&Connection) -> embedded::rusqlite::Result<usize> + Send + 'static {
    move |conn| conn.execute("INSERT INTO word(text) VALUES (?1)", [text])
}

async fn write_until_an_io_error(db: &Database) {
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
    let failed = failed.expect("ten megabytes do not fit into the limit");
    assert!(matches!(failed, Error::Commit(_) | Error::Sqlite(_)), "{failed}");
    assert!(!db.is_writable());
    // A small write would fit, and must not be believed.
    assert!(matches!(db.write(add("small".to_owned())).await, Err(Error::Broken)));
    let count =
        |conn: &Connection| conn.query_row("SELECT count(*) FROM word", [], |row| row.get::<_, i64>(0));
    assert!(db.read(count).await.unwrap() > 0, "reads go on");
}
