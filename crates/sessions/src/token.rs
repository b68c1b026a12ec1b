//! The secret token of a session, and the public id that the server stores. The gateway parses tokens; the backends of this crate
//! generate them.

use std::{fmt, str::FromStr, sync::Arc};

use sha2::{Digest, Sha256};

use crate::Error;

/// The secret of a session: 256 random bits, as 64 lower-case hex digits. Its `Debug` output does not contain the secret.
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
        if is_hex_of_32_bytes(text) { Ok(Self(text.into())) } else { Err(NotAToken) }
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
    fn a_generated_token_is_256_bits_and_unique_and_not_printed() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.reveal().parse(), Ok(one.clone()));
        let output = format!("{one:?} {:?}", one.id());
        assert!(!output.contains(one.reveal()), "{output}");
    }

    #[test]
    fn an_id_is_the_sha_256_of_the_token() {
        let token: Token = "0".repeat(64).parse().unwrap();
        assert_eq!(token.id().as_str(), "60e05bd1b195af2f94112fa7197a5c88289058840ce7c6df9693756bc6250f55");
    }

    #[test]
    fn tokens_and_ids_are_64_lower_case_hex_digits() {
        assert!("0a".repeat(32).parse::<Token>().is_ok() && "0a".repeat(32).parse::<SessionId>().is_ok());
        for bad in [String::new(), "0a".repeat(31), "0A".repeat(32), "0g".repeat(32), "\u{e9}".repeat(32)] {
            assert_eq!(bad.parse::<SessionId>(), Err(NotAToken), "{bad}");
            assert_eq!(bad.parse::<Token>(), Err(NotAToken), "{bad}");
        }
    }
}
