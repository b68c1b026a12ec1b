//! A store in one embedded SQLite file, with checks at start, one writer thread with group commit, and several reader threads. Called
//! by the SQLite backends of sessions, accounts and chat; calls [`rusqlite`] and no other crate of this workspace.
//!
//! ```no_run
//! # async fn example() -> Result<(), embedded::Error> {
//! use embedded::{Database, Options};
//! const MIGRATIONS: &[&str] = &["CREATE TABLE word(text TEXT PRIMARY KEY) STRICT"];
//! let db = Database::open("data/words.sqlite3".as_ref(), Options::new(MIGRATIONS))?;
//! db.write(|conn| conn.execute("INSERT INTO word VALUES (?1)", ["hello"])).await?;
//! let words: u32 = db.read(|conn| conn.query_row("SELECT count(*) FROM word", [], |row| row.get(0))).await?;
//! # Ok(()) }
//! ```

mod causes;
mod checkpoint;
mod completeness;
mod condition;
mod damage;
mod database;
mod error;
mod examination;
mod file;
mod health;
mod hooks;
mod identity;
mod job;
mod lock_holders;
mod lock_record;
mod opening;
mod options;
mod reader;
mod refusals;
mod reserve;
mod row_sum;
mod schema;
mod shape;
mod shortage;
mod snapshot;
mod state;
mod threads;
mod wal;
mod watch;
mod writer;

pub use causes::{cause_of, cause_of_failure};
pub use database::Database;
pub use error::Error;
pub use examination::{Examined, examine};
pub use hooks::on_failure;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub use hooks::set_fault_hook;
pub use options::Options;
pub use row_sum::{damage, damaged_row};
pub use rusqlite;
pub use snapshot::{Check, Snapshot};
pub use state::new_group;
