//! The text of a message. It is checked once at the edge (client and HTTP). Rooms and stores hold the parsed type.

use std::sync::Arc;

use crate::Error;

/// The text of a message: not empty, and within the limit. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(Arc<str>);

impl Text {
    /// Checks `text` against `limit` bytes.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when it is empty, [`Error::TooLarge`] when it exceeds the limit.
    pub fn check(text: &str, limit: usize) -> Result<(), Error> {
        match text.len() {
            0 => Err(Error::BadRequest("text is empty".to_owned())),
            length if length > limit => Err(Error::TooLarge { what: "text", limit }),
            _ => Ok(()),
        }
    }

    /// A text that passes [`Text::check`].
    ///
    /// # Errors
    /// As [`Text::check`].
    pub fn parse(text: String, limit: usize) -> Result<Self, Error> {
        Self::check(&text, limit)?;
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
