//! The cause of a failed call to MongoDB, as a phrase for operators that follows "MongoDB".

use mongodb::error::{Error, ErrorKind, WriteFailure};

use super::{DUPLICATE_KEY, Unanswered, duplicates::without_values, unusable::Unusable};
use crate::{NO_ANSWER, REFUSES, StoreGateClosed, cause};

/// The primary accepts writes, but a majority does not acknowledge them.
pub const UNCONFIRMED: &str = "does not confirm writes: a majority of its replica set is missing, its disk does not answer, or it is locked by fsyncLock";

/// MongoDB is locked for a backup.
pub(super) const LOCKED: &str =
    "is locked by fsyncLock, as for a backup, and blocks all writes: end the backup, or run db.fsyncUnlock()";

/// The server shuts down.
const SHUTS_DOWN: &str = "is shutting down";

/// An error reply without a phrase of its own.
const REFUSES_OPERATION: &str = "refuses an operation";

/// The replica set has no primary.
pub(super) const NO_PRIMARY: &str =
    "has no primary: a majority of its replica set is missing, or an election is under way";

/// The server is not a member of a replica set.
const STANDALONE: &str = "is not a replica set: start it with --replSet and run rs.initiate()";

/// The replica set has another name than the address.
const OTHER_SET: &str =
    "has no member of the replica set that its address names: check replicaSet=, and that rs.initiate() ran";

/// The disk is full.
const FULL: &str = "has no disk space left and refuses writes";

/// The maximum length of an error in the log, in characters.
const BRIEF: usize = 300;

/// Phrases by the code of an error reply.
const BY_CODE: [(i32, &str); 21] = [
    (18, REFUSES),
    (13, cause::FORBIDS),
    (8000, cause::FORBIDS),
    (14031, FULL),
    (64, UNCONFIRMED),
    (100, UNCONFIRMED),
    (79, UNCONFIRMED),
    (10107, NO_PRIMARY),
    (13435, NO_PRIMARY),
    (13436, NO_PRIMARY),
    (11602, NO_PRIMARY),
    (189, NO_PRIMARY),
    (91, SHUTS_DOWN),
    (11600, SHUTS_DOWN),
    (121, "has a validator that refuses documents of the roles: remove it with collMod"),
    (166, "has a view under the name of a collection of the roles: drop it"),
    (50, "takes too long to write: look for locks and slow operations in db.currentOp()"),
    (262, "refuses writes because a limit on time or space is exceeded"),
    (10334, "refuses a document that is too large"),
    (
        13297,
        "has a database whose name differs only by case from the one in its address: correct the case of the name there",
    ),
    (
        371,
        "blocks the writes of users (setUserWriteBlockMode, as mongosync sets it): end that, or run db.adminCommand({setUserWriteBlockMode: 1, global: false})",
    ),
];

/// The names of codes, which error replies to writes omit.
const NAMES: [(i32, &str); 14] = [
    (8, "UnknownError"),
    (64, "WriteConcernTimeout"),
    (189, "PrimarySteppedDown"),
    (371, "UserWritesBlocked"),
    (10107, "NotWritablePrimary"),
    (13297, "DatabaseDifferCase"),
    (13, "Unauthorized"),
    (20, "IllegalOperation"),
    (50, "MaxTimeMSExpired"),
    (121, "DocumentValidationFailure"),
    (166, "CommandNotSupportedOnView"),
    (262, "ExceededTimeLimit"),
    (14031, "OutOfDiskSpace"),
    (DUPLICATE_KEY, "DuplicateKey"),
];

/// Phrases by a part of the text of an error, in lower case. The first match applies.
const BY_TEXT: [(&str, &str); 8] = [
    (
        "unreplicated ns",
        "has a database that it does not replicate: name another database than local in its address",
    ),
    ("authentication fail", REFUSES),
    ("scram failure", REFUSES),
    ("no space left", FULL),
    ("transaction numbers are only allowed", STANDALONE),
    ("replicaset name", OTHER_SET),
    ("type: rssecondary", NO_PRIMARY),
    ("type: rsghost", OTHER_SET),
];

/// Phrases by a part of the text, used when neither the tables above nor a network error match.
const FALLBACK: [(&str, &str); 3] = [
    ("replicasetnoprimary", NO_PRIMARY),
    ("unexpected eof", "closes connections: check the port, and whether it expects TLS (tls=true)"),
    ("connection reset", "closes connections: check the port, and whether it expects TLS (tls=true)"),
];

impl Unanswered {
    /// The cause, as a phrase that follows "MongoDB".
    pub fn not_ready_reason(&self) -> &'static str {
        match self {
            Self::Late => NO_ANSWER,
            Self::Mongo(error) => of(error),
        }
    }
}

impl Unanswered {
    /// The cause, as a phrase that follows "MongoDB". In brackets follow the code of an error reply with its name, or, when no server could
    /// be selected, the last state of each member.
    pub fn description(&self) -> String {
        match self {
            Self::Late => NO_ANSWER.to_owned(),
            Self::Mongo(error) => described(error),
        }
    }

    /// Like [`Unanswered::description`], with the failed operation and its collection, such as "find in users", before the code.
    pub fn description_of(&self, operation: &str) -> String {
        match self {
            Self::Mongo(error) if code(error).is_some() => {
                format!("{} ({operation}: {})", of(error), code_text(error))
            }
            _ => self.description(),
        }
    }
}

/// The cause of `error`, as a phrase that follows "MongoDB", and its code, or the state of each member of the set that the error lists.
fn described(error: &Error) -> String {
    let (cause, code, members) = (of(error), code_text(error), members(&error.to_string()));
    match (code.is_empty(), members.is_empty()) {
        (true, true) => cause.to_owned(),
        (false, _) => format!("{cause} ({code})"),
        (true, false) => format!("{cause} ({})", members.join(", ")),
    }
}

/// The code of an error reply and its name. Empty for another error.
pub(super) fn code_text(error: &Error) -> String {
    let Some((code, name)) = code(error) else { return String::new() };
    let listed = || NAMES.iter().find(|(listed, _)| *listed == code).map(|(_, name)| *name);
    let name = name.filter(|name| !name.is_empty()).or_else(listed).unwrap_or_default();
    format!("{code} {name}").trim_end().to_owned()
}

/// The text of `error` for the log, at most [`BRIEF`] characters. The full text contains the whole topology when no server could be
/// selected, the bytes of the reply, and the values of a duplicate key, which can be a user's data.
pub fn brief(error: &Error) -> String {
    if let Some(closed) = error.get_custom::<StoreGateClosed>() {
        return closed.to_string();
    }
    if let Some(unusable) = error.get_custom::<Unusable>() {
        return unusable.to_string();
    }
    let text = match &*error.kind {
        ErrorKind::ServerSelection { .. } => format!("MongoDB {}", described(error)),
        kind => without_values(error).unwrap_or_else(|| kind.to_string()),
    };
    match text.char_indices().nth(BRIEF) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The members that an error text of the driver lists, each with its state.
fn members(text: &str) -> Vec<String> {
    let described = text.split("{ Address: ").skip(1).filter_map(|member| {
        let (address, rest) = member.split_once(", Type: ")?;
        let kind = rest.split([',', ' ', '}']).next().unwrap_or_default();
        let failure = rest.split_once(", Error: ").map(|(_, failure)| failure.to_lowercase());
        let state = match (kind.to_lowercase().as_str(), failure) {
            ("rsprimary", _) => "is the primary".to_owned(),
            ("rssecondary", _) => "is a secondary".to_owned(),
            ("rsarbiter", _) => "is an arbiter".to_owned(),
            ("rsghost", _) => "has no replica set".to_owned(),
            ("unknown", Some(failure)) => {
                let phrase = cause::by_text(&failure).or_else(|| find(&FALLBACK, &failure));
                phrase.unwrap_or("cannot be reached").to_owned()
            }
            ("unknown", None) => "was not reached yet".to_owned(),
            (other, _) => format!("is {other}"),
        };
        Some(format!("{address} {state}"))
    });
    described.collect()
}

/// The cause of `error`, as a phrase that follows "MongoDB".
pub fn of(error: &Error) -> &'static str {
    match &*error.kind {
        ErrorKind::Authentication { .. } => return REFUSES,
        ErrorKind::DnsResolve { .. } => return cause::UNKNOWN_HOST,
        _ => {}
    }
    let code = code(error).map(|(code, _)| code);
    if let Some((_, phrase)) = BY_CODE.iter().find(|(listed, _)| Some(*listed) == code) {
        return phrase;
    }
    let text = error.to_string().to_lowercase();
    if text.contains("topology: {") && !text.contains("servers: [") {
        // The driver removes servers that are not members of the set from its topology.
        return OTHER_SET;
    }
    find(&BY_TEXT, &text)
        .or_else(|| cause::by_text(&text))
        .or_else(|| find(&FALLBACK, &text))
        .unwrap_or(if code.is_some() { REFUSES_OPERATION } else { NO_ANSWER })
}

/// The code of an error reply, and its name when the reply contains it.
pub(super) fn code(error: &Error) -> Option<(i32, Option<&str>)> {
    match &*error.kind {
        ErrorKind::Command(refused) => Some((refused.code, Some(&refused.code_name))),
        ErrorKind::Write(WriteFailure::WriteError(refused)) => {
            Some((refused.code, refused.code_name.as_deref()))
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(refused)) => {
            Some((refused.code, Some(&refused.code_name)))
        }
        ErrorKind::InsertMany(failed) => {
            let first = failed.write_errors.as_deref().and_then(<[_]>::first);
            let first = first.map(|refused| (refused.code, refused.code_name.as_deref()));
            let concern = failed.write_concern_error.as_ref();
            first.or(concern.map(|refused| (refused.code, Some(&*refused.code_name))))
        }
        _ => None,
    }
}

/// Whether MongoDB answered and refused the operation. `false` when it could not be reached, changes its primary or does not confirm.
pub fn is_refusal(error: &Error) -> bool {
    let is_state = |phrase| [NO_PRIMARY, SHUTS_DOWN, UNCONFIRMED].contains(&phrase);
    code(error).is_some() && !is_state(of(error))
}

/// The phrase of the first entry of `table` whose part is in `text`.
fn find(table: &[(&str, &'static str)], text: &str) -> Option<&'static str> {
    table.iter().find(|(part, _)| text.contains(part)).map(|(_, phrase)| *phrase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_a_set_without_a_primary_are_named() {
        let text = "Kind: Server selection timeout: No available servers. Topology: { Type: ReplicaSetNoPrimary, Set Name: rs0, Servers: \
            [ { Address: one:27017, Type: RsSecondary, Average RTT: 2ms }, { Address: two:27017, Type: Unknown, Error: Kind: I/O error: \
            Connection refused (os error 111), labels: {} }, { Address: three:27017, Type: Unknown } ] }";
        let named = members(text);
        let expected =
            ["one:27017 is a secondary", "two:27017 refuses connections", "three:27017 was not reached yet"];
        assert_eq!(named.len(), expected.len(), "{named:?}");
        assert!(named.iter().zip(expected).all(|(member, state)| member.starts_with(state)), "{named:?}");
        assert_eq!(members("Kind: Command failed: not a list"), [""; 0]);
    }

    #[test]
    fn members_with_a_fault_of_tls_are_described_by_it() {
        let cases = [
            ("Kind: I/O error: tls handshake eof, labels: {}", "ends the TLS handshake"),
            (
                "Kind: I/O error: received corrupt message of type InvalidContentType",
                "ends the TLS handshake",
            ),
            ("Kind: I/O error: invalid peer certificate: UnknownIssuer", "has a certificate"),
            ("Kind: I/O error: unexpected end of file", "cannot be reached"),
            ("Kind: I/O error: unexpected eof", "closes connections"),
            ("Kind: I/O error: Connection reset by peer (os error 104)", "closes connections"),
        ];
        for (error, state) in cases {
            let text = format!("Servers: [ {{ Address: one:27017, Type: Unknown, Error: {error} }} ]");
            let described = members(&text);
            assert!(described[0].starts_with(&format!("one:27017 {state}")), "{error}: {described:?}");
        }
    }
}
