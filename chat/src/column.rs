//! Numbers and names in columns. Called by the SQLite and MongoDB backends.

use proto::Username;
use rusqlite::{Row, types::Type};

/// A number that was stored with [`integer`].
pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// The name of a user.
pub(crate) fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<Username> {
    let name: String = row.get(column)?;
    name.try_into().map_err(|error: proto::NameError| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

/// A number for a signed column. Values above `i64::MAX`, which do not occur, are stored as `i64::MAX`.
pub(crate) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
