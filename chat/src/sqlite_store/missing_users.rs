//! Comparison of the chat's file with the file of users: names that rooms and messages refer to and that no user has. Users are never
//! deleted, and only users become members and authors. So a missing user shows that the file of users is older than the chat's.

use embedded::{Error, Snapshot};

/// The first schema version in which members and messages have checksums.
const CHECKSUMS: u32 = 5;

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The names without a user, sorted, each in one of its spellings.
    pub missing: Vec<String>,
    /// The position of the chat's log up to which everything was compared: the epoch and the last offset.
    pub position: String,
}

/// Compares a snapshot of the chat's file with `users`. Reads all members, and the authors of the messages after `compared`, the position
/// of an earlier comparison. Without a position, or with one of another epoch, it reads the authors of all messages. Damaged rows are no
/// references: their names are unknown.
///
/// # Errors
/// When one of the files cannot be read.
pub fn compare(chat: &Snapshot, users: &Snapshot, compared: Option<&str>) -> Result<Comparison, Error> {
    chat.attach_people(users)?;
    let version = chat.version()?;
    let epoch = chat.column("SELECT value FROM meta WHERE key = 'epoch'")?.pop().unwrap_or_default();
    let last = "SELECT CAST(coalesce(max(seq), 0) AS TEXT) FROM sqlite_sequence WHERE name = 'messages'";
    let last = chat.column(last)?.pop().unwrap_or_default();
    let after = compared.and_then(|compared| match compared.split_once(' ') {
        Some((of, offset)) if of == epoch => offset.parse::<u64>().ok(),
        _ => None,
    });
    let after = after.filter(|after| last.parse().is_ok_and(|last: u64| *after <= last));
    let mut missing = chat.column(&missing_members(version))?;
    missing.extend(chat.column(&missing_authors(version, after))?);
    missing.sort_unstable();
    missing.dedup_by_key(|name| name.to_ascii_lowercase());
    Ok(Comparison { missing, position: format!("{epoch} {last}") })
}

/// A condition on a name in the column `name`: no user has it. A user with a damaged key is found by the name.
const HAS_NO_USER: &str = "lower(name) NOT IN (SELECT key FROM people.users)
     AND NOT EXISTS (SELECT 1 FROM people.users WHERE username = name COLLATE NOCASE)";

fn missing_members(version: u32) -> String {
    let intact =
        if version < CHECKSUMS { "1" } else { "(sum <> row_sum(room, user, owner, added_by)) IS NOT 1" };
    format!(
        "SELECT min(name) FROM (SELECT DISTINCT user AS name FROM members) WHERE {HAS_NO_USER}
         AND EXISTS (SELECT 1 FROM members WHERE user = name AND {intact}) GROUP BY lower(name)"
    )
}

/// Without `after` an index that contains all authors is read, and not the texts.
fn missing_authors(version: u32, after: Option<u64>) -> String {
    let after = after.map_or("1".to_owned(), |after| format!("\"offset\" > {after}"));
    let intact = if version < CHECKSUMS {
        "1"
    } else {
        "(sum <> row_sum(room, seq, id, author, client_id, text, timestamp, origin)) IS NOT 1"
    };
    format!(
        "SELECT min(name) FROM (SELECT DISTINCT author AS name FROM messages WHERE {after}) WHERE {HAS_NO_USER}
         AND EXISTS (SELECT 1 FROM messages WHERE author = name AND {after} AND {intact}) GROUP BY lower(name)"
    )
}
