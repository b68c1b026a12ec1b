//! The secret token of a session, and the public id that the server stores. The gateway parses tokens; the backends of this crate
//! generate them.

use std::{fmt, str::FromStr, sync::Arc};

use sha2::{Digest, Sha256};

use crate::Error;

/// The secret of a session. A generated token is 256 random bits in hex. A parsed token is 1 to 128 characters of
/// `A-Z a-z 0-9 _ -`. Its `Debug` output does not contain the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

/// The public id of a session: the SHA-256 of its token, as 64 lower-case hex digits. The token cannot be derived from it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

/// The text is not a valid token or session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a session token")]
pub struct NotAToken;

impl Token {
    /// The maximum length of a token that a client sends, in bytes.
    pub const MAX: usize = 128;

    /// Generates a token from random bytes of the operating system.
    pub fn generate() -> Result<Self, Error> {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits)?;
        Ok(Self(hex::encode(bits).into()))
    }

    /// The id of its session.
    pub fn id(&self) -> SessionId {
        SessionId(hex::encode(Sha256::digest(self.0.as_bytes())).into())
    }

    /// Whether it has the form of a generated token: 64 lower-case hex digits. No other value is the token of a session.
    pub fn has_generated_form(&self) -> bool {
        is_hex_of_32_bytes(&self.0)
    }

    /// The secret itself. Use it only for the cookie of the client.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl SessionId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let is_valid = (1..=Self::MAX).contains(&text.len()) && text.bytes().all(allowed);
        if is_valid { Ok(Self(text.into())) } else { Err(NotAToken) }
    }
}

impl FromStr for SessionId {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        if is_hex_of_32_bytes(text) { Ok(Self(text.into())) } else { Err(NotAToken) }
    }
}

/// Whether the text is 32 bytes as lower-case hex digits.
fn is_hex_of_32_bytes(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_token_is_256_bits_and_unique() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_eq!(hex::decode(one.reveal()).unwrap().len(), 32);
        assert_ne!(one, other);
        assert!(one.has_generated_form());
        assert_eq!(one.reveal().parse(), Ok(one));
    }

    #[test]
    fn the_debug_output_does_not_contain_the_token() {
        let token = Token::generate().unwrap();
        let output = format!("{token:?} {:?}", token.id());
        assert!(!output.contains(token.reveal()), "{output}");
    }

    #[test]
    fn an_id_is_the_sha_256_of_the_token() {
        let token: Token = "abc".parse().unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(token.id().as_str(), expected);
        assert_eq!(expected.parse(), Ok(token.id()));
    }

    #[test]
    fn a_token_is_1_to_128_allowed_characters() {
        let longest = "a".repeat(128);
        for good in ["a", "A_z-9", &longest] {
            assert!(good.parse::<Token>().is_ok(), "{good}");
        }
        let too_long = "a".repeat(129);
        for bad in ["", " ", "a b", "a\r\n", "a\0", "a*", "a:b", "a.b", "é", "session:%00", &too_long] {
            assert_eq!(bad.parse::<Token>(), Err(NotAToken), "{bad:?}");
        }
    }

    #[test]
    fn a_session_id_is_64_lower_case_hex_digits() {
        assert!("0a".repeat(32).parse::<SessionId>().is_ok());
        for bad in [String::new(), "0a".repeat(31), "0A".repeat(32), "0g".repeat(32), "é".repeat(32)] {
            assert_eq!(bad.parse::<SessionId>(), Err(NotAToken), "{bad}");
        }
    }
}
