//! Failed writes of the roles: which of them are faults of the store, and their texts.

use mongodb::error::{Error, ErrorKind};

use super::{
    cause::{NO_PRIMARY, UNCONFIRMED, code, code_text, is_refusal, of},
    duplicates::{OwnIndexes, violated_index},
    trial::Operation,
};
use crate::cause::by_text;

/// The code of a server that is not the primary, while the checks of the connection succeed.
const NOT_PRIMARY: &str = "answers a write as a server that is not the primary: an election is under way, or its address leads through a balancer, a proxy or directConnection=true; name all members and replicaSet=";

/// The connection of a write ended before its answer.
const CUT: &str =
    "ends the connection before it answers a write: look at its log, and at proxies in front of it";

/// A unique index that the roles have not created refuses a document.
pub(super) const FOREIGN_INDEX: &str = "has a unique index of another program on a collection of the roles, which refuses their documents: drop it";

/// A write is not answered, and other collections accept writes.
pub(super) const NO_WRITE: &str =
    "does not answer a write: look for locks and index builds in db.currentOp()";

/// Codes of writes that fail because of their document or of a concurrent write: write conflicts, and documents that are too large or too
/// deep. A duplicate key is one of them only in an index of the roles.
const OF_DOCUMENT: [i32; 5] = [112, 10334, 17419, 17420, 15];

/// A failed write, for operators.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// The cause, as a phrase that follows "MongoDB".
    pub phrase: &'static str,
    /// The code and the name of the error, and a violated index. Empty when no error reply arrived.
    pub code: String,
    /// Whether the fault is one of the connection or of the state of the server, whose end an accepted trial shows. `false` for a refusal:
    /// real writes can be refused where a trial is accepted.
    pub is_of_connection: bool,
}

/// A write without an answer. Its document is not the cause.
pub(super) const NO_WRITE_ANSWERED: Failure =
    Failure { phrase: NO_WRITE, code: String::new(), is_of_connection: true };

impl Failure {
    /// Whether one such failure is reported although no other write has failed.
    pub fn is_certain(&self) -> bool {
        [NO_WRITE, FOREIGN_INDEX, UNCONFIRMED].contains(&self.phrase)
    }
}

/// The cause of a failed write. `None` for an error that the document of the write or a concurrent write causes. `own` are the unique
/// indexes of the roles on the collection.
pub(super) fn failure_of_store(error: &Error, operation: Operation, own: OwnIndexes) -> Option<Failure> {
    let Some((code, _)) = code(error) else { return failure_without_reply(error) };
    // A unique index cannot be created when stored documents violate it.
    let is_of_document = OF_DOCUMENT.contains(&code) || (operation != Operation::Index && own.refuse(error));
    if is_of_document {
        return None;
    }
    let (index, code) = (violated_index(error), code_text(error));
    let phrase = match of(error) {
        _ if index.is_some() && operation != Operation::Index => FOREIGN_INDEX,
        NO_PRIMARY => NOT_PRIMARY,
        phrase => phrase,
    };
    let code = index.map_or_else(|| code.clone(), |index| format!("{code}, index {index}"));
    // A trial does not wait for a majority, because it is aborted.
    let is_of_connection = !is_refusal(error) && phrase != UNCONFIRMED;
    Some(Failure { phrase, code, is_of_connection })
}

/// The cause of a write to which no error reply arrived. `None` for an error of the program or its document.
fn failure_without_reply(error: &Error) -> Option<Failure> {
    let phrase = match &*error.kind {
        ErrorKind::InvalidArgument { .. }
        | ErrorKind::BsonSerialization(_)
        | ErrorKind::BsonDeserialization(_)
        | ErrorKind::Bson(_)
        | ErrorKind::Custom(_) => return None,
        ErrorKind::Io(_) => by_text(&error.to_string().to_lowercase()).unwrap_or(CUT),
        _ => of(error),
    };
    Some(Failure { phrase, code: String::new(), is_of_connection: true })
}
