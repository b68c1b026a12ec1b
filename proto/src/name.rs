//! Usernames and room names. They are validated where input enters; other code holds the parsed types.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A username: 1 to 32 characters of `A-Z a-z 0-9 _ . -`. Upper and lower case are kept as registered. Names
/// that differ only in case are the same user ([`Username::key`]).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(Arc<str>);

/// A room name: 1 to 64 characters of `A-Z a-z 0-9 _ . : -`, case-sensitive.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomName(Arc<str>);

/// Reason for refusing a name. The text is shown to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The username is empty, too long, or contains a character outside the allowed set.
    #[error("a username has 1 to {max} letters, digits, '_', '.' or '-'", max = Username::MAX)]
    Username,
    /// The name is a relative segment of a URL path.
    #[error("a name cannot be '.' or '..'")]
    Dots,
    /// The name could be mistaken for a message of the system.
    #[error("this username is reserved")]
    Reserved,
    /// The room name is empty, too long, or contains a character outside the allowed set.
    #[error("a room name has 1 to {max} letters, digits, '_', '.', ':' or '-'", max = RoomName::MAX)]
    RoomName,
}

/// Usernames that cannot be registered, compared by [`Username::key`].
const RESERVED: [&str; 8] =
    ["system", "admin", "administrator", "root", "null", "undefined", "godzilla", "server"];

impl Username {
    /// Maximum length in characters. Names are ASCII, so it is also the length in bytes.
    pub const MAX: usize = 32;

    /// The name in lower case. Two users cannot have the same key.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The name in the case of its registration.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Refuses reserved names. A user that already has a reserved name can still log in.
    pub fn check_registrable(&self) -> Result<(), NameError> {
        if RESERVED.contains(&self.key().as_str()) { Err(NameError::Reserved) } else { Ok(()) }
    }
}

impl RoomName {
    /// Maximum length in characters. Names are ASCII, so it is also the length in bytes.
    pub const MAX: usize = 64;

    /// The lobby: the room that has every user as a member.
    pub fn lobby() -> Self {
        Self("lobby".into())
    }

    /// Whether this is the lobby.
    pub fn is_lobby(&self) -> bool {
        &*self.0 == "lobby"
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_username_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn well_formed(
    text: &str,
    max: usize,
    allowed: impl Fn(u8) -> bool,
    otherwise: NameError,
) -> Result<Arc<str>, NameError> {
    match (1..=max).contains(&text.len()) && text.bytes().all(allowed) {
        true if text == "." || text == ".." => Err(NameError::Dots),
        true => Ok(text.into()),
        false => Err(otherwise),
    }
}

impl FromStr for Username {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        well_formed(text, Self::MAX, is_username_byte, NameError::Username).map(Self)
    }
}

impl FromStr for RoomName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |byte| is_username_byte(byte) || byte == b':';
        well_formed(text, Self::MAX, allowed, NameError::RoomName).map(Self)
    }
}

/// Conversions and formatting of both types.
macro_rules! text_of {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    )*};
}

text_of!(Username, RoomName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_are_ascii_words_of_at_most_32() {
        let longest = "a".repeat(32);
        for good in ["a", "Alice", "bob_2", "x.y-z", &longest] {
            assert_eq!(good.parse::<Username>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let too_long = "a".repeat(33);
        let bad = [
            "",
            " ",
            ".",
            "..",
            "a b",
            "a\r\nb",
            "a\0",
            "аlice",
            "a\u{200b}",
            "a:b",
            "a/b",
            "\u{202e}a",
            "é",
            &too_long,
        ];
        for bad in bad {
            let want = if matches!(bad, "." | "..") { NameError::Dots } else { NameError::Username };
            assert_eq!(bad.parse::<Username>(), Err(want), "{bad:?}");
        }
    }

    #[test]
    fn names_that_differ_in_case_share_a_key() {
        let (upper, lower): (Username, Username) = ("ALICE".parse().unwrap(), "alice".parse().unwrap());
        assert_ne!(upper, lower);
        assert_eq!(upper.key(), lower.key());
    }

    #[test]
    fn reserved_names_cannot_be_registered() {
        let system: Username = "SysTem".parse().unwrap();
        assert_eq!(system.check_registrable(), Err(NameError::Reserved));
        let alice: Username = "alice".parse().unwrap();
        assert_eq!(alice.check_registrable(), Ok(()));
    }

    #[test]
    fn room_names_may_have_a_colon_and_64_characters() {
        let longest = "r".repeat(64);
        for good in ["lobby", "team:red", &longest] {
            assert!(good.parse::<RoomName>().is_ok(), "{good}");
        }
        let too_long = "r".repeat(65);
        for bad in ["", ".", "..", "a b", "a/b", "a,b", "ü", &too_long] {
            let want = if matches!(bad, "." | "..") { NameError::Dots } else { NameError::RoomName };
            assert_eq!(bad.parse::<RoomName>(), Err(want), "{bad:?}");
        }
    }

    #[test]
    fn json_with_a_bad_name_does_not_parse() {
        assert!(serde_json::from_str::<Username>("\"al ice\"").is_err());
        assert!(serde_json::from_str::<Username>("{\"$gt\":\"\"}").is_err());
        assert!(serde_json::from_str::<Username>("\"alice\"").is_ok());
    }
}
