//! The cause of a failed call to MongoDB, as a phrase for operators that follows "MongoDB".

use mongodb::error::{Error, ErrorKind, WriteFailure};

use super::Unanswered;
use crate::{NO_ANSWER, REFUSES, cause};

/// The primary accepts writes, but a majority does not acknowledge them.
pub const UNCONFIRMED: &str =
    "does not confirm writes: a majority of its replica set is missing, or its disk does not answer";

/// The replica set has no primary.
const NO_PRIMARY: &str =
    "has no primary: a majority of its replica set is missing, or an election is under way";

/// The server is not a member of a replica set.
const STANDALONE: &str = "is not a replica set: start it with --replSet and run rs.initiate()";

/// The replica set has another name than the address.
const OTHER_SET: &str =
    "has no member of the replica set that its address names: check replicaSet=, and that rs.initiate() ran";

/// The disk is full.
const FULL: &str = "has no disk space left and refuses writes";

/// Phrases by the code of an error reply.
const BY_CODE: [(i32, &str); 17] = [
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
    (91, "is shutting down"),
    (11600, "is shutting down"),
    (20, STANDALONE),
    (262, "refuses writes because a limit on time or space is exceeded"),
    (10334, "refuses a document that is too large"),
];

/// Phrases by a part of the text of an error, in lower case. The first match applies.
const BY_TEXT: [(&str, &str); 7] = [
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
    /// The cause, as a phrase that follows "MongoDB". When no server could be selected, the last state of each member follows in
    /// brackets.
    pub fn description(&self) -> String {
        let cause = self.not_ready_reason();
        let Self::Mongo(error) = self else { return cause.to_owned() };
        let members = members(&error.to_string());
        if members.is_empty() { cause.to_owned() } else { format!("{cause} ({})", members.join(", ")) }
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
    let code = match &*error.kind {
        ErrorKind::Authentication { .. } => return REFUSES,
        ErrorKind::DnsResolve { .. } => return cause::UNKNOWN_HOST,
        ErrorKind::Command(refused) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteError(refused)) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(refused)) => Some(refused.code),
        ErrorKind::InsertMany(failed) => {
            let first = failed.write_errors.as_deref().and_then(<[_]>::first).map(|refused| refused.code);
            first.or(failed.write_concern_error.as_ref().map(|refused| refused.code))
        }
        _ => None,
    };
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
        .unwrap_or(NO_ANSWER)
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
