//! Checksums of rows. SQLite detects a flipped bit in the structure of a page, but not in the content of a row. So rows contain a
//! checksum: `row_sum(...)` in SQL, over the protected columns in a fixed order.

use rusqlite::{
    Connection,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};
use xxhash_rust::xxh3::Xxh3;

/// Adds the SQL function `row_sum` to a connection. It takes any number of values and returns an integer (XXH3, 64 bits).
pub fn register(conn: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    conn.create_scalar_function("row_sum", -1, flags, |values| Ok(sum(values)))
}

/// The error code of SQLite for damage, with an extended part that SQLite does not use.
const DAMAGED_ROW: i32 = rusqlite::ffi::SQLITE_CORRUPT | (0x40 << 8);

/// The error of a read that found a row with a wrong checksum. `what` names the row, such as "a user".
pub fn damaged_row(what: &str) -> rusqlite::Error {
    damage(format!("{what} has a wrong checksum; `godzilla check` finds all damage"))
}

/// The error of a job that found rows missing or wrong. `what` is a sentence.
pub fn damage(what: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(DAMAGED_ROW), Some(what))
}

/// Whether an error is from [`damaged_row`] or [`damage`], which means that the rest of the store can be read.
pub(crate) fn is_damaged_row(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == DAMAGED_ROW)
}

fn sum(values: &Context<'_>) -> i64 {
    let mut hasher = Xxh3::new();
    for at in 0..values.len() {
        // The type and the length separate adjacent values.
        match values.get_raw(at) {
            ValueRef::Null => hasher.update(&[0]),
            ValueRef::Integer(number) => {
                hasher.update(&[1]);
                hasher.update(&number.to_le_bytes());
            }
            ValueRef::Real(number) => {
                hasher.update(&[2]);
                hasher.update(&number.to_le_bytes());
            }
            text @ (ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
                hasher.update(&[if matches!(text, ValueRef::Text(_)) { 3 } else { 4 }]);
                hasher.update(&(bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            }
        }
    }
    hasher.digest().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_their_types_and_their_order_change_the_checksum() {
        let conn = Connection::open_in_memory().unwrap();
        register(&conn).unwrap();
        let sum = |values: &str| -> i64 {
            conn.query_row(&format!("SELECT row_sum({values})"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!(sum("'a', 1"), sum("'a', 1"));
        let all = [
            "x'61', 1",
            "'a', 1",
            "'b', 1",
            "1, 'a'",
            "'a', '1'",
            "'a', NULL",
            "'a'",
            "'', 'a1'",
            "'a1', ''",
            "",
        ];
        let mut sums: Vec<i64> = all.iter().map(|values| sum(values)).collect();
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), all.len());
    }
}
