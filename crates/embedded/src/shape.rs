//! The tables and indexes of an open file. Another program can drop one, or add a trigger that refuses or changes the writes of this
//! process. Checked at the start and in each transaction of the writer.

use std::collections::BTreeSet;

use rusqlite::{Connection, ffi};

use crate::row_sum;

/// A table, index or trigger: its type and name.
type Object = (String, String);

/// The error code of SQLite for a changed schema, with an extended part that SQLite does not use.
const CHANGED: i32 = ffi::SQLITE_SCHEMA | (0x40 << 8);

/// The tables and indexes that a file must have.
#[derive(Debug)]
pub struct Shape {
    expected: BTreeSet<Object>,
    /// SQLite's number of schema changes at the last check that found no fault.
    checked: Option<i64>,
}

impl Shape {
    /// The tables and indexes that the migrations make.
    pub fn of(migrations: &[&str]) -> rusqlite::Result<Self> {
        let memory = Connection::open_in_memory()?;
        row_sum::register(&memory)?;
        migrations.iter().try_for_each(|sql| memory.execute_batch(sql))?;
        Ok(Self { expected: objects(&memory)?, checked: None })
    }

    /// Adds the tables and indexes that the file has.
    pub fn extend(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.expected.extend(objects(conn)?.into_iter().filter(|(kind, _)| kind != "trigger"));
        Ok(())
    }

    /// What another program has changed, as a sentence about the file. `None` when every table and index exists and no trigger was added.
    pub fn fault(&self, conn: &Connection) -> rusqlite::Result<Option<String>> {
        let found = objects(conn)?;
        let missing = self.expected.difference(&found).next();
        let added = found.difference(&self.expected).find(|(kind, _)| kind == "trigger");
        Ok(match (missing, added) {
            (Some((kind, name)), _) => Some(format!(
                "the {kind} {name} is missing, because another program has dropped it; restore a backup"
            )),
            (None, Some((_, name))) => Some(format!(
                "another program has added the trigger {name}; remove it with DROP TRIGGER {name}"
            )),
            (None, None) => None,
        })
    }

    /// Checks the file if its schema has changed since the last check. To be called in a transaction.
    ///
    /// # Errors
    /// An error for which [`is_changed`] is true when there is a fault. The error of SQLite.
    pub fn check(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let number = conn.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))?;
        if self.checked == Some(number) {
            return Ok(());
        }
        match self.fault(conn)? {
            Some(fault) => {
                let error = ffi::Error::new(CHANGED);
                Err(rusqlite::Error::SqliteFailure(error, Some(fault)))
            }
            None => {
                self.checked = Some(number);
                Ok(())
            }
        }
    }

    /// Begins a transaction that may write, and checks the file in it.
    ///
    /// # Errors
    /// As [`Shape::check`]. The transaction may be open then.
    pub fn begin(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.check(conn)
    }
}

/// Whether this is the error of a file that another program has changed.
pub fn is_changed(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == CHANGED)
}

/// The tables, indexes and triggers of a database, without those of SQLite itself.
fn objects(conn: &Connection) -> rusqlite::Result<BTreeSet<Object>> {
    let query = "SELECT type, name FROM sqlite_schema
                 WHERE type IN ('table', 'index', 'trigger') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut statement = conn.prepare(query)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
