//! The text of a message. It is checked once at the edge (client and HTTP). Rooms and stores hold the parsed type.

use std::sync::Arc;

use crate::Error;

/// The text of a message: not empty, and within the limit unless it may be a resend. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    text: Arc<str>,
    /// The limit in bytes that the text exceeds. `None` when it is within the limit.
    exceeds: Option<usize>,
}

impl Text {
    /// Checks `text` against `limit` bytes. `is_repeatable`: the message has a `clientId`. A text over the limit is then accepted here, because
    /// it may be a resend of a message that was stored under a higher limit. The store refuses it with [`Text::exceeds`] if it is not.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when it is empty, [`Error::TooLarge`] when it exceeds the limit.
    pub fn check(text: &str, limit: usize, is_repeatable: bool) -> Result<(), Error> {
        match text.len() {
            0 => Err(Error::BadRequest("text is empty".to_owned())),
            length if length > limit && !is_repeatable => Err(Error::TooLarge { what: "text", limit }),
            _ => Ok(()),
        }
    }

    /// A text that passes [`Text::check`].
    ///
    /// # Errors
    /// As [`Text::check`] of a message without a `clientId`.
    pub fn parse(text: String, limit: usize) -> Result<Self, Error> {
        Self::check(&text, limit, false)?;
        Self::parse_repeatable(text, limit)
    }

    /// A text that passes [`Text::check`].
    ///
    /// # Errors
    /// As [`Text::check`] of a message with a `clientId`.
    pub fn parse_repeatable(text: String, limit: usize) -> Result<Self, Error> {
        Self::check(&text, limit, true)?;
        let exceeds = (text.len() > limit).then_some(limit);
        Ok(Self { text: text.into(), exceeds })
    }

    /// The [`Error::TooLarge`] with which a new message is refused. `None` when the text is within the limit.
    pub fn exceeds(&self) -> Option<Error> {
        self.exceeds.map(|limit| Error::TooLarge { what: "text", limit })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LARGE: Error = Error::TooLarge { what: "text", limit: 8192 };

    #[test]
    fn text_may_fill_the_limit_and_not_exceed_it() {
        assert!(Text::parse("x".repeat(8192), 8192).is_ok());
        assert_eq!(Text::parse("x".repeat(8193), 8192), Err(TOO_LARGE));
        assert_eq!(Text::parse("é".repeat(4097), 8192), Err(TOO_LARGE));
    }

    #[test]
    fn empty_text_is_refused() {
        assert!(matches!(Text::parse(String::new(), 10), Err(Error::BadRequest(_))));
        assert!(Text::parse(" ".into(), 10).is_ok());
    }
}
