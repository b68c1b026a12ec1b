//! Unsigned numbers in signed columns. Called by the SQLite and MongoDB backends.

use rusqlite::Row;

/// A number that was stored with [`integer`].
pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// A number for a signed column. Values above `i64::MAX`, which do not occur, are stored as `i64::MAX`.
pub(crate) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
