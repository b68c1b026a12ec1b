//! The schema version of a file, and the migrations. Called by [`Database::open`](crate::Database::open).

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::Error;

/// Applies the missing migrations in order, each in one transaction. `user_version` is the number of applied migrations. A file with a
/// higher number than that of `migrations` is refused and not changed.
pub fn migrate(conn: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), Error> {
    let open = |source| Error::Open { path: path.to_owned(), source };
    let found: u32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(open)?;
    let supported = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if found > supported {
        return Err(Error::Newer { path: path.to_owned(), found, supported });
    }
    for (number, sql) in (1..).zip(migrations).filter(|(number, _)| *number > found) {
        let failed = |source| Error::Migration { path: path.to_owned(), number, source };
        apply(conn, sql, number).map_err(failed)?;
        tracing::info!(path = %path.display(), number, "applied a migration");
    }
    Ok(())
}

fn apply(conn: &mut Connection, sql: &str, number: u32) -> rusqlite::Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(sql)?;
    transaction.pragma_update(None, "user_version", number)?;
    transaction.commit()
}

/// Runs statements in one transaction.
pub fn run(conn: &mut Connection, statements: &[&str]) -> rusqlite::Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for statement in statements {
        transaction.execute_batch(statement)?;
    }
    transaction.commit()
}
