//! Validation of passwords.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

/// A password in NFC, 1 to 71 bytes, without control characters. bcrypt distinguishes all such texts. `Debug` does not print it.
#[derive(Clone)]
pub struct Password(String);

/// Reason for refusing a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Fewer characters than a new password needs.
    #[error("a password has at least {min} characters", min = Password::MIN_CHARS)]
    Short,
    /// More bytes than bcrypt uses.
    #[error("a password has at most {max} bytes", max = Password::MAX_BYTES)]
    Long,
    /// Contains control characters. bcrypt ends a password at a NUL.
    #[error("a password has no control characters")]
    Control,
}

impl Password {
    /// Minimum number of characters of a new password.
    pub const MIN_CHARS: usize = 8;

    /// Maximum number of bytes in UTF-8 after normalisation. bcrypt uses 72 bytes including a final NUL.
    pub const MAX_BYTES: usize = 71;

    /// Normalises and validates a typed password.
    pub fn new(typed: &str) -> Result<Self, Weakness> {
        let text: String = typed.nfc().collect();
        match text.len() {
            0 => Err(Weakness::Short),
            _ if text.chars().any(char::is_control) => Err(Weakness::Control),
            1..=Self::MAX_BYTES => Ok(Self(text)),
            _ => Err(Weakness::Long),
        }
    }

    /// Refuses a password that is too short for registration. A user with such a password can still log in.
    pub fn check_registrable(&self) -> Result<(), Weakness> {
        if self.0.chars().count() < Self::MIN_CHARS { Err(Weakness::Short) } else { Ok(()) }
    }

    /// The text, for bcrypt only.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(typed: &str) -> Result<(), Weakness> {
        Password::new(typed)?.check_registrable()
    }

    #[test]
    fn lengths_are_8_characters_to_71_bytes_after_normalisation() {
        assert_eq!(register(&"a".repeat(7)), Err(Weakness::Short));
        assert_eq!(register(&"a".repeat(8)), Ok(()));
        assert_eq!(register(&"a".repeat(71)), Ok(()));
        assert_eq!(register(&"a".repeat(72)), Err(Weakness::Long));
        // Four bytes each: seven are too few characters, eighteen too many bytes.
        assert_eq!(register(&"\u{1f600}".repeat(7)), Err(Weakness::Short));
        assert_eq!(register(&"\u{1f600}".repeat(18)), Err(Weakness::Long));
        // 105 bytes as typed, 70 once composed.
        assert_eq!(register(&"e\u{301}".repeat(35)), Ok(()));
    }

    #[test]
    fn control_characters_are_refused() {
        for control in ["\0", "\n", "\u{1f}", "\u{7f}", "\u{80}", "\u{9f}"] {
            assert_eq!(register(&format!("long enough{control}tail")), Err(Weakness::Control), "{control:?}");
        }
        assert_eq!(register("sp ace \u{a0} tab-free"), Ok(()));
    }

    #[test]
    fn composed_and_decomposed_letters_are_one_password() {
        let (one, other) = (Password::new("caf\u{e9} au lait"), Password::new("cafe\u{301} au lait"));
        assert_eq!(one.unwrap().reveal(), other.unwrap().reveal());
    }

    #[test]
    fn debug_does_not_print_a_password() {
        assert_eq!(format!("{:?}", Password::new("correct horse").unwrap()), "Password(..)");
    }
}
