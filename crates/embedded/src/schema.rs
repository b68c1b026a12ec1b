//! The schema's version: which migrations a file has seen. Called by [`Database::open`](crate::Database::open).

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::Error;

/// Brings the file to the newest schema, one transaction per migration. Each is run once, in order; `user_version` counts
/// them. A file with more than are known is refused untouched.
pub fn migrate(conn: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), Error> {
    let open = |source| Error::Open { path: path.to_owned(), source };
    let found: u32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(open)?;
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(Error::Newer { path: path.to_owned(), found, known });
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

/// Runs some statements in one transaction.
pub fn run(conn: &mut Connection, statements: &[&str]) -> rusqlite::Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for statement in statements {
        transaction.execute_batch(statement)?;
    }
    transaction.commit()
}
