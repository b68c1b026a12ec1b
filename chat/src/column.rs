//! Unsigned numbers in SQLite's signed columns. Called by the SQLite backends.

use rusqlite::Row;

/// A number that was stored with [`integer`].
pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// What nothing here reaches is stored as the largest there is.
pub(crate) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
