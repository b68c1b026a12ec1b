//! The comparison of the chat's file with that of users at a start. It detects a `users.sqlite3` that is older than `chat.sqlite3`: another
//! client could register the name of a missing user, and read that user's rooms.

use std::path::Path;

use chat::sqlite_store::{Comparison, compare};
use embedded::Snapshot;
use proto::Username;

use super::{CHAT, USERS, has_content, unusable};
use crate::error::Error;

/// Compares the files in `directory`. The file of users is open, that of the chat is not. Returns `None` when the files cannot be compared:
/// the opening of a damaged file reports the damage, and a damaged page must not prevent a start.
///
/// # Errors
/// When members or authors are no users, unless `accept_loss`. The error names `flag`.
pub fn check(flag: &Path, directory: &Path, accept_loss: bool) -> Result<Option<Comparison>, Error> {
    if !has_content(directory, CHAT) {
        return Ok(None);
    }
    let compared = || {
        let (chat, users) = (Snapshot::open(&directory.join(CHAT))?, Snapshot::open(&directory.join(USERS))?);
        compare(&chat, &users, users.compared()?.as_deref())
    };
    let found = match compared() {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "{CHAT} cannot be compared with {USERS}; run `godzilla check`");
            return Ok(None);
        }
    };
    match found.missing.first() {
        Some(first) if !accept_loss => Err(unusable(flag)(format!(
            "{USERS} is older than {CHAT}, or not of the same store: {} of the members and authors in {CHAT} are no users, the first is \
             {first}. Restore all files of one backup; or run `godzilla check --accept-loss` to go on without these users, whose names \
             then stay taken",
            found.missing.len()
        ))),
        _ => Ok(Some(found)),
    }
}

/// Records the comparison in the file of users, and reserves the names of missing users, whose loss was accepted.
pub fn record(users: &accounts::SqliteUsers, found: Option<Comparison>) {
    let Some(Comparison { missing, position }) = found else { return };
    let names: Vec<Username> = missing.into_iter().filter_map(|name| name.parse().ok()).collect();
    // Queued before any other write.
    if !names.is_empty() {
        tracing::warn!(
            users = names.len(),
            "rooms refer to users that are missing; their names cannot be registered"
        );
        drop(users.reserve(names));
    }
    drop(users.database().set_compared(&position));
}
