//! Transactions: all statements read one snapshot, and the commit is acknowledged once it is in the journals of a majority.

use std::time::Duration;

use mongodb::{
    Client, ClientSession,
    error::{
        Error as MongoError, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR,
        UNKNOWN_TRANSACTION_COMMIT_RESULT,
    },
    options::{ReadConcern, ReadPreference, SelectionCriteria},
};

use super::{DUPLICATE_KEY, MAJORITY, cause, duplicates, durable_writes};

/// Error codes of a snapshot that MongoDB cannot read, because a collection or an index was created or dropped after it. A later snapshot
/// can be read.
const SNAPSHOT_UNAVAILABLE: [i32; 2] = [246, 175];

/// Starts a transaction. It is aborted when the session is dropped before the commit.
///
/// # Errors
/// When no server can be selected.
pub async fn transaction(client: &Client) -> Result<ClientSession, MongoError> {
    let mut session = client.start_session().await?;
    let start = session.start_transaction().read_concern(ReadConcern::snapshot());
    let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
    start.write_concern(durable_writes()).selection_criteria(primary).max_commit_time(MAX_COMMIT).await?;
    Ok(session)
}

/// The maximum time of a commit on the server. Less than the deadline of a call.
const MAX_COMMIT: Duration = MAJORITY;

/// Whether the transaction was aborted and a new one can succeed: a concurrent transaction has written the same document, or the primary
/// has changed.
pub fn is_transient(error: &MongoError) -> bool {
    error.contains_label(TRANSIENT_TRANSACTION_ERROR)
}

/// Whether a commit may have been executed, so that it must be repeated.
pub fn is_unknown_commit(error: &MongoError) -> bool {
    error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) || error.contains_label(RETRYABLE_WRITE_ERROR)
}

/// Whether a snapshot cannot be read and a later one can.
pub fn is_snapshot_unavailable(error: &MongoError) -> bool {
    cause::code_of(error).is_some_and(|code| SNAPSHOT_UNAVAILABLE.contains(&code))
}

/// Whether `error` is a duplicate key in the index `index`.
pub fn is_duplicate_in(error: &MongoError, index: &str) -> bool {
    cause::code_of(error) == Some(DUPLICATE_KEY) && duplicates::violated_index(error) == Some(index)
}
