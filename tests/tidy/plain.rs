//! Forbidden words: a list of words and phrases that are not technical English, applied to comments, string literals and identifiers of all
//! sources.

use super::{none, sources};

/// Verbs and nouns of people, and images, with all their forms. Matched as whole words without regard to case.
const WORDS: &[&str] = &[
    "hear",
    "hears",
    "heard",
    "hearing",
    "unheard",
    "say",
    "says",
    "said",
    "saying",
    "tell",
    "tells",
    "told",
    "telling",
    "untold",
    "believe",
    "believes",
    "believed",
    "forget",
    "forgets",
    "forgot",
    "forgotten",
    "forgetting",
    "know",
    "knows",
    "knew",
    "known",
    "knowing",
    "speak",
    "speaks",
    "spoke",
    "spoken",
    "talk",
    "talks",
    "wish",
    "wishes",
    "wants",
    "whoever",
    "whomever",
    "whom",
    "whatever",
    "somebody",
    "nobody",
    "everybody",
    "anybody",
    "vain",
    "door",
    "doors",
    "seat",
    "seats",
    "guest",
    "guests",
    "crowd",
    "crowded",
    "bury",
    "buried",
    "pulse",
    "wire",
    "carry",
    "carries",
    "carried",
    "carrier",
    "outbox",
    "occupant",
    "laggard",
    "misfit",
    "stranger",
    "deaf",
    "farewell",
    "goodbye",
    "puppet",
    "climber",
    "parlor",
    "lab",
    "laboratory",
    "stage",
    "testbed",
    "newcomer",
    "newcomers",
    "comeback",
    "comebacks",
    "healed",
    "spliced",
    "setback",
    "setbacks",
    "doubt",
    "doubts",
    "curfew",
    "diary",
];

/// Forbidden sequences of words.
const PHRASES: &[&str] = &[
    "come back",
    "comes back",
    "came back",
    "coming back",
    "in vain",
    "the one that",
    "the one who",
    "those who",
    "see the module",
    "as well as may be",
    "without a word",
    "no word",
    "let in",
    "lets in",
    "let into",
    "turned away",
    "put out of",
    "puts out of",
    "lives on",
    "live on",
    "so many",
    "so much",
    "so long as",
    "does no harm",
    "pile up",
    "for ever",
    "of ours",
    "any more",
];

/// Words that are allowed in one place: the end of a path, the word, the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("tests/tidy/plain.rs", "*", "the list itself"),
    ("accounts/tests/mongo.rs", "told", "the name of a counter in MongoDB"),
    ("accounts/src/login_throttle.rs", "setbacks", "the name of a key in Redis"),
    ("accounts/src/login_throttle.rs", "known", "the name of a key in Redis"),
    ("crates/testkit/src/mongo.rs", "testbed", "an environment variable of scripts/test"),
    ("crates/testkit/src/redis.rs", "testbed", "an environment variable of scripts/test"),
    ("examples/conformance/main_namespace.rs", "goodbye", "a payload of the official suite"),
    ("chat/src/broker/stream/record.rs", "said", "the tag of a record in the Redis Stream"),
    ("chat/src/broker/stream/tests.rs", "said", "the tag of a record in the Redis Stream"),
    ("chat/src/history/mongo/tests.rs", "untold", "the name of a collection in MongoDB"),
    ("chat/src/mongo_store.rs", "untold", "the name of a collection in MongoDB"),
    ("src/storage/mongo/mod.rs", "untold", "the name of a collection in MongoDB"),
    ("src/storage/mongo/mod.rs", "told", "the name of a counter in MongoDB"),
    ("tests/doctor/stores.rs", "untold", "the name of a collection in MongoDB"),
    ("tests/roles/stores.rs", "untold", "the name of a collection in MongoDB"),
    ("chat/src/unpublished/mongo.rs", "untold", "the name of a collection in MongoDB"),
    ("chat/tests/support/gated_directory.rs", "forget", "tokio::sync::SemaphorePermit::forget"),
    ("crates/remote/src/cause.rs", "known", "a text of the C library (getaddrinfo)"),
    ("crates/sessions/src/redis.rs", "crowded", "the prefix of a message on a channel in Redis"),
    ("crates/sessions/src/revocations/mongo.rs", "told", "the name of a counter in MongoDB"),
    ("src/config.rs", "outbox", "the name of a setting"),
    ("src/config/sockets.rs", "outbox", "the name of a setting"),
    ("tests/config.rs", "outbox", "the name of a setting"),
    ("tests/faults/faulty_stores.rs", "untold", "the name of a collection in MongoDB"),
    ("tests/settings.rs", "outbox", "the name of a setting"),
    ("tests/tidy/words.rs", "guest", "an application word that socketio must not contain"),
];

/// A piece of source text that is checked.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Comment(String),
    Literal(String),
    Identifier(String),
}

impl Piece {
    /// The piece as lower-case words with single spaces between and around them.
    fn words(&self) -> String {
        let (Self::Comment(text) | Self::Literal(text) | Self::Identifier(text)) = self;
        let mut words = String::from(" ");
        let mut previous = ' ';
        for c in text.chars() {
            if c.is_ascii_uppercase() && previous.is_ascii_lowercase() {
                words.push(' ');
            }
            if c.is_ascii_alphanumeric() {
                words.push(c.to_ascii_lowercase());
            } else if !words.ends_with(' ') {
                words.push(' ');
            }
            previous = c;
        }
        words.push(' ');
        words
    }

    /// The forbidden words and phrases in the piece.
    fn offences(&self) -> Vec<&'static str> {
        let words = self.words();
        let has_word = |word: &&str| words.split(' ').any(|other| other == *word);
        let has_phrase = |phrase: &&str| words.contains(&format!(" {phrase} "));
        let mut found: Vec<&'static str> = WORDS.iter().copied().filter(has_word).collect();
        if !matches!(self, Self::Identifier(name) if !name.contains('_') && !name.contains(char::is_uppercase))
        {
            found.extend(PHRASES.iter().copied().filter(has_phrase));
        }
        // In code `None` is a value; a comment names it so.
        if let Self::Comment(text) = self
            && text.split(|c: char| !c.is_alphanumeric()).any(|word| word == "none")
        {
            found.push("none");
        }
        found
    }
}

/// The comments, literals and identifiers of `code` with their line numbers, from 1.
fn pieces(code: &str) -> Vec<(usize, Piece)> {
    let (mut pieces, mut rest, mut line) = (Vec::new(), code, 1);
    while let Some(first) = rest.chars().next() {
        let (length, piece) = match first {
            _ if rest.starts_with("//") => {
                let length = rest.find('\n').unwrap_or(rest.len());
                (length, Some(Piece::Comment(rest[..length].to_owned())))
            }
            _ if rest.starts_with("r\"") || rest.starts_with("r#") => raw_literal(rest),
            '"' => literal(rest),
            '\'' => (character(rest), None),
            c if c.is_alphabetic() || c == '_' => {
                let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                (length, Some(Piece::Identifier(rest[..length].to_owned())))
            }
            other => (other.len_utf8(), None),
        };
        pieces.extend(piece.map(|piece| (line, piece)));
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    pieces
}

/// A string literal; escapes are kept as they are.
fn literal(rest: &str) -> (usize, Option<Piece>) {
    let mut is_escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    });
    let end = end.map_or(rest.len(), |(at, _)| at + 1);
    (end, Some(Piece::Literal(rest[..end].replace("\\n", " ").replace("\\r", " "))))
}

/// A raw string literal, or a raw identifier.
fn raw_literal(rest: &str) -> (usize, Option<Piece>) {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    let start = 1 + hashes;
    if !rest[start..].starts_with('"') {
        return (start, None);
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let length = rest[start + 1..].find(&end).map_or(rest.len(), |at| start + 1 + at + end.len());
    (length, Some(Piece::Literal(rest[..length].to_owned())))
}

/// The length of a character literal, or of the quote of a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let behind = at + escaped.len_utf8();
            rest[behind..].find('\'').map_or(1, |end| behind + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[test]
fn sources_use_plain_technical_english() {
    let sources = sources();
    let offences = sources.iter().flat_map(|source| {
        let is_allowed = |word: &str| {
            let mut exceptions = EXCEPTIONS.iter().filter(|(path, ..)| source.path.ends_with(path));
            exceptions.any(|(_, allowed, _)| *allowed == "*" || *allowed == word)
        };
        let found = pieces(&source.text).into_iter().flat_map(|(line, piece)| {
            let words = piece.offences();
            words.into_iter().map(move |word| (line, word, format!("{piece:?}")))
        });
        let found = found.filter(|(_, word, _)| !is_allowed(word));
        let found: Vec<String> = found
            .map(|(line, word, text)| format!("{}:{line}: {word:?} in {text:.100}", source.path))
            .collect();
        found
    });
    none("write as the documentation of tokio, Redis and Kafka is written", offences);
}

/// An exception that nothing needs any more is removed.
#[test]
fn every_exception_is_needed() {
    let sources = sources();
    let unused = EXCEPTIONS.iter().filter(|(path, allowed, _)| {
        let has = |piece: &Piece| *allowed == "*" || piece.offences().contains(allowed);
        let mut matching = sources.iter().filter(|source| source.path.ends_with(path));
        !matching.any(|source| pieces(&source.text).iter().any(|(_, piece)| has(piece)))
    });
    none("each exception matches a word", unused.map(|(path, word, _)| format!("{path}: {word}")));
}

#[test]
fn comments_literals_and_identifiers_are_found() {
    let code = "/// A doc.\nfn is_none<'a>(c: char) { let heard = \"she \\\"said\\\"\"; c == '\"' || r#\"raw \"told\"\"#; } // end";
    let found: Vec<(usize, Vec<&str>)> = pieces(code)
        .iter()
        .map(|(line, piece)| (*line, piece.offences()))
        .filter(|(_, words)| !words.is_empty())
        .collect();
    assert_eq!(found, [(2, vec!["heard"]), (2, vec!["said"]), (2, vec!["told"])]);
    let of = |piece: Piece| piece.offences();
    assert_eq!(of(Piece::Identifier("whoComesBack_now".into())), ["comes back"]);
    assert_eq!(of(Piece::Identifier("unknownDoor".into())), ["door"]);
    assert_eq!(of(Piece::Comment("// `None`: absent".into())), [""; 0]);
    assert_eq!(of(Piece::Comment("// none is absent".into())), ["none"]);
}
