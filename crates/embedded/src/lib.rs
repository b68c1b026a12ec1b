//! A store in one embedded SQLite file, with one writer thread with group commit and several reader threads. Called by the SQLite
//! backends of sessions, accounts and chat; calls [`rusqlite`] and no other crate of this workspace.
//!
//! ```no_run
//! # async fn example() -> Result<(), embedded::Error> {
//! use embedded::{Database, Options};
//! const SCHEMA: &str = "CREATE TABLE word(text TEXT PRIMARY KEY) STRICT";
//! let _lock = embedded::lock("data".as_ref())?;
//! let db = Database::open("data/words.sqlite3".as_ref(), Options::new(SCHEMA))?;
//! db.write(|conn| conn.execute("INSERT INTO word VALUES (?1)", ["hello"])).await?;
//! let words: u32 = db.read(|conn| conn.query_row("SELECT count(*) FROM word", [], |row| row.get(0))).await?;
//! # Ok(()) }
//! ```

mod database;
mod error;
mod file;
mod hooks;
mod job;
mod reader;
mod writer;

pub use database::{Database, Options};
pub use error::Error;
pub use file::{Checked, check, copy, lock};
pub use hooks::on_failure;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub use hooks::set_fault_hook;
pub use rusqlite;
