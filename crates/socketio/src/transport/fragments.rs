//! A WebSocket message in several frames, joined (RFC 6455 §5.4). Pure. The [`super::guard`] bounds the
//! number of fragments and bytes. Used by the pipe in [`super::ws`].

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::{close::CloseReason, session::PipeInput};

/// A fragmented message that is not complete.
#[derive(Debug)]
pub(super) struct Fragments {
    is_text: bool,
    bytes: BytesMut,
    /// The length of the prefix of a text that is validated as UTF-8.
    checked: usize,
}

impl Fragments {
    /// An empty text message.
    pub(super) fn text() -> Self {
        Self { is_text: true, bytes: BytesMut::new(), checked: 0 }
    }

    /// An empty binary message.
    pub(super) fn binary() -> Self {
        Self { is_text: false, ..Self::text() }
    }

    /// Adds a fragment. Returns false if a text is invalid UTF-8.
    pub(super) fn add(&mut self, data: &[u8]) -> bool {
        self.bytes.extend_from_slice(data);
        if !self.is_text {
            return true;
        }
        match std::str::from_utf8(&self.bytes[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return false,
        }
        true
    }

    /// The complete message, in a buffer of its own size: the application may keep it, for example while an
    /// attachment waits for others.
    pub(super) fn join(self) -> PipeInput {
        let spare = self.bytes.capacity() - self.bytes.len();
        let bytes = match spare > self.bytes.len() / 8 {
            true => Bytes::copy_from_slice(&self.bytes),
            false => self.bytes.freeze(),
        };
        if !self.is_text {
            return PipeInput::Binary(bytes);
        }
        let text = ByteString::try_from(bytes);
        text.map_or(PipeInput::Failed(CloseReason::InvalidText), PipeInput::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_may_be_split_anywhere() {
        let text = "aé€😀";
        for cut in 0..text.len() {
            let mut message = Fragments::text();
            assert!(message.add(&text.as_bytes()[..cut]));
            assert!(message.add(&text.as_bytes()[cut..]));
            assert!(matches!(message.join(), PipeInput::Text(joined) if joined == text));
        }
    }

    #[test]
    fn invalid_utf8_is_detected_at_its_fragment() {
        for splitter in [&[&b"a\xFF"[..]][..], &[b"\xF4", b"\x90"], &[b"ok", b"\xED\xA0"]] {
            let mut message = Fragments::text();
            assert!(!splitter.iter().all(|piece| message.add(piece)));
        }
    }

    #[test]
    fn a_text_that_ends_inside_a_character_is_invalid() {
        let mut message = Fragments::text();
        assert!(message.add(b"\xE2\x82"));
        assert!(matches!(message.join(), PipeInput::Failed(CloseReason::InvalidText)));
    }
}
