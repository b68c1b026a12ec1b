//! Detects guessable keys: few distinct bytes, a repetition, a sequence, words of examples, an unfilled template, the
//! digest of such a text. Random bytes are never refused, in binary, hexadecimal or base64. Pure. Called by [`super`].

use std::collections::HashSet;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use proto::signature::Key;
use sha2::{Digest, Sha256};

/// 32 random bytes have at least 8 distinct values, and so do the hexadecimal digits of random bytes.
const VARIED: usize = 8;

/// Words that examples contain in place of a key. A key with such words is refused when fewer than [`Key::MIN`] bytes
/// remain without them.
const WORDS: [&str; 26] = [
    "changeme",
    "change-me",
    "change_me",
    "change this",
    "changeit",
    "replaceme",
    "replace-me",
    "replace_me",
    "replace with",
    "placeholder",
    "password",
    "passw0rd",
    "passphrase",
    "secret",
    "example",
    "default",
    "insecure",
    "development",
    "production",
    "godzilla",
    "qwerty",
    "letmein",
    "lorem ipsum",
    "random bytes",
    "deadbeef",
    "cafebabe",
];

/// Parts of commands and settings that create or name a key. No key contains one.
const COMMANDS: [&str; 7] = [
    "openssl rand",
    "/dev/urandom",
    "/dev/random",
    "head -c",
    "scripts/secrets",
    "--secret-file",
    "godzilla_secret_file",
];

/// Brackets around a value that a template was meant to fill in.
const TEMPLATES: [(&str, &str); 6] =
    [("${", "}"), ("$(", ")"), ("{{", "}}"), ("<", ">"), ("%{", "}"), ("[", "]")];

/// Why `key` is guessable, as text that follows "the key". `None` when it can be random.
pub fn why(key: &[u8]) -> Option<&'static str> {
    if is_digest(key) {
        return Some("is the SHA-256 of a common text");
    }
    let decoded = [decoded(key), Some(key.to_vec())];
    decoded.into_iter().flatten().find_map(|bytes| why_bytes(&bytes))
}

fn why_bytes(bytes: &[u8]) -> Option<&'static str> {
    if bytes.iter().collect::<HashSet<_>>().len() < VARIED {
        return Some("has fewer than 8 different bytes");
    }
    if is_repetition(bytes) {
        return Some("repeats its own beginning");
    }
    if is_sequence(bytes) {
        return Some("is a sequence");
    }
    let text = bytes.to_ascii_lowercase();
    if COMMANDS.iter().any(|command| contains(&text, command.as_bytes())) {
        return Some("is a command or a setting, and not what it makes");
    }
    if is_template(bytes) {
        return Some("is a template that was not filled in");
    }
    (is_words(&text)).then_some("is made of common words")
}

/// Decodes hexadecimal digits or base64.
fn decoded(key: &[u8]) -> Option<Vec<u8>> {
    let base64 = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
    hex::decode(key).ok().or_else(|| base64.iter().find_map(|engine| engine.decode(key).ok()))
}

/// Whether the bytes repeat one part at least twice.
fn is_repetition(bytes: &[u8]) -> bool {
    let repeats = |period: usize| bytes.iter().zip(&bytes[period..]).all(|(earlier, later)| earlier == later);
    (1..=bytes.len() / 2).any(repeats)
}

/// Whether most bytes differ from the previous byte by the same amount: counters, alphabets, digits in order.
fn is_sequence(bytes: &[u8]) -> bool {
    let mut steps = [0_usize; 256];
    bytes.windows(2).for_each(|pair| steps[usize::from(pair[1].wrapping_sub(pair[0]))] += 1);
    steps.iter().any(|count| count * 2 > bytes.len())
}

fn is_template(bytes: &[u8]) -> bool {
    let is_text = bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    is_text
        && TEMPLATES
            .iter()
            .any(|(open, close)| bytes.starts_with(open.as_bytes()) && bytes.ends_with(close.as_bytes()))
}

fn is_words(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let rest = WORDS.iter().fold(text.to_string(), |rest, word| rest.replace(word, ""));
    rest.len() < text.len() && rest.len() < Key::MIN
}

/// Whether the key is the SHA-256 digest of the empty text or of a word, in hexadecimal digits or bytes.
fn is_digest(key: &[u8]) -> bool {
    let digest = hex::decode(key).unwrap_or_else(|_| key.to_vec());
    let is_of = |text: &str| Sha256::digest(text).as_slice() == digest;
    is_of("") || is_of("\n") || WORDS.iter().any(|word| is_of(word) || is_of(&format!("{word}\n")))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessable_keys_are_refused() {
        let changeme = hex::encode("changeme".repeat(4));
        let encoded = STANDARD.encode("godzilla-development-secret-key!");
        let digest = hex::encode(Sha256::digest("changeme"));
        let counter: Vec<u8> = (0..32).collect();
        let guessable: [&[u8]; 27] = [
            &[0; 32],
            &[b'0'; 64],
            &[0xff; 48],
            &b"s3cret".repeat(6),
            &b"0123456789abcdef".repeat(4),
            b"1234567890123456789012345678901234567890",
            &counter,
            b"abcdefghijklmnopqrstuvwxyz012345",
            b"zyxwvutsrqponmlkjihgfedcba987654",
            b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            b"changeme-changeme-please-changeme",
            b"CHANGE-ME-TO-A-REAL-KEY-OF-32-BYTES!",
            b"your-256-bit-secret-goes-in-here",
            b"my-super-secret-password-for-godzilla",
            b"REPLACE_ME_WITH_32_BYTES_OR_MORE",
            b"deadbeefcafebabe0123deadbeefcafebabe4567",
            changeme.as_bytes(),
            encoded.as_bytes(),
            STANDARD.encode([0; 32]).leak().as_bytes(),
            digest.as_bytes(),
            b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            b"$(openssl rand -hex 32) # somewhere",
            b"head -c 32 /dev/urandom | od -An -tx1",
            b"${GODZILLA_IDENTITY_KEY_OF_THE_CLUSTER}",
            b"{{ .Values.identityKey | b64enc | quote }}",
            b"<put 32 or more bytes of noise in this place>",
            b"at least 32 random bytes of the default",
        ];
        for key in guessable {
            assert!(key.len() >= Key::MIN, "not refused for its length");
            assert!(why(key).is_some(), "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn random_bytes_are_never_refused_in_any_form() {
        for _ in 0..2_000 {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).unwrap();
            let long = [bytes, bytes.map(|byte| byte.rotate_left(3) ^ 0x5a)].concat();
            let forms = [
                bytes.to_vec(),
                hex::encode(bytes).into_bytes(),
                hex::encode_upper(bytes).into_bytes(),
                STANDARD.encode(bytes).into_bytes(),
                URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
                long,
            ];
            for key in forms {
                assert_eq!(why(&key), None, "{}", String::from_utf8_lossy(&key));
            }
        }
        for passphrase in ["Vb7#kk2p(Zq9!mmx4$Rt6&wwe1)Yy8*u", "lamp-otter-violin-granite-puddle-seven"] {
            assert_eq!(why(passphrase.as_bytes()), None, "{passphrase}");
        }
    }
}
