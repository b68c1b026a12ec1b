//! Duplicate keys. A unique index of the roles refuses a document by design: a name is taken, or another node has written first. A unique
//! index that another program has created on a collection of the roles refuses documents at random, which is a fault of the store.
//!
//! MongoDB names the index in the text of the error only.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use super::DUPLICATE_KEY;

/// The index of every collection.
pub(super) const PRIMARY: &str = "_id_";

/// The text before the name of the index.
const BEFORE_INDEX: &str = " index: ";

/// The texts after the name of the index. The first of them that follows ends the name.
const AFTER_INDEX: [&str; 2] = [" dup key: ", " collation: "];

/// The text before the values of the key.
const BEFORE_VALUES: &str = " dup key: ";

/// The names of the unique indexes of the roles on one collection. Each collection also has [`PRIMARY`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OwnIndexes(pub &'static [&'static str]);

impl OwnIndexes {
    /// Whether `error` is a duplicate key in one of these indexes, in which case the write failed because of its document. `false` for
    /// an index of another program, and for an error that names no index.
    pub fn refuse(self, error: &Error) -> bool {
        duplicate(error).and_then(index).is_some_and(|index| index == PRIMARY || self.0.contains(&index))
    }
}

/// The name of the index in which `error` is a duplicate key. Empty when the error has no name. `None` for another error.
pub(super) fn violated_index(error: &Error) -> Option<&str> {
    duplicate(error).map(|message| index(message).unwrap_or_default())
}

/// The text of an error of a duplicate key. `None` for another error.
fn duplicate(error: &Error) -> Option<&str> {
    let (code, message) = match &*error.kind {
        ErrorKind::Command(refused) => (refused.code, &refused.message),
        ErrorKind::Write(WriteFailure::WriteError(refused)) => (refused.code, &refused.message),
        ErrorKind::InsertMany(failed) => {
            let first = failed.write_errors.as_deref().and_then(<[_]>::first)?;
            (first.code, &first.message)
        }
        _ => return None,
    };
    (code == DUPLICATE_KEY).then_some(message)
}

/// The name of the index in `E11000 duplicate key error collection: db.name index: NAME dup key: { ... }`.
fn index(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once(BEFORE_INDEX)?;
    let end = AFTER_INDEX.iter().filter_map(|after| rest.find(after)).min()?;
    Some(&rest[..end])
}

/// The text of an error of a duplicate key without the values of the key, which can be a user's data. `None` for another error.
pub(super) fn without_values(error: &Error) -> Option<String> {
    let message = duplicate(error)?;
    let brief = message.split_once(BEFORE_VALUES).map_or(message, |(brief, _)| brief);
    Some(format!("{brief} (code {DUPLICATE_KEY})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_read_from_the_text_and_not_from_values() {
        let cases = [
            (
                "E11000 duplicate key error collection: a.users index: _id_ dup key: { _id: \"x\" }",
                Some("_id_"),
            ),
            (
                "E11000 duplicate key error collection: a.users index: email_1 dup key: { email: \" index: _id_ dup key: \" }",
                Some("email_1"),
            ),
            (
                "E11000 duplicate key error collection: a.b index: by name collation: { locale: \"de\" } dup key: { n: 1 }",
                Some("by name"),
            ),
            ("E11000 duplicate key error", None),
            ("", None),
        ];
        for (message, expected) in cases {
            assert_eq!(index(message), expected, "{message}");
        }
    }
}
