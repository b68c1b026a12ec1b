//! A WebSocket message that comes in several frames, joined (RFC 6455 §5.4). Pure; how many splitter and bytes there may be is
//! the [`super::guard`]'s. Called by the pipe in [`super::ws`].

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::{close::CloseReason, session::PipeInput};

/// See the module.
#[derive(Debug)]
pub(super) struct Fragments {
    is_text: bool,
    bytes: BytesMut,
    /// How far a text is known to be UTF-8.
    checked: usize,
}

impl Fragments {
    /// A text of which nothing has come yet.
    pub(super) fn text() -> Self {
        Self { is_text: true, bytes: BytesMut::new(), checked: 0 }
    }

    /// A binary message of which nothing has come yet.
    pub(super) fn binary() -> Self {
        Self { is_text: false, ..Self::text() }
    }

    /// Adds a piece; answers whether a text can still become UTF-8.
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

    /// The whole message, in no more memory than it needs: the application may keep it, as an attachment waits for others.
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
    fn a_character_may_be_cut_anywhere() {
        let text = "aé€😀";
        for cut in 0..text.len() {
            let mut message = Fragments::text();
            assert!(message.add(&text.as_bytes()[..cut]));
            assert!(message.add(&text.as_bytes()[cut..]));
            assert!(matches!(message.join(), PipeInput::Text(joined) if joined == text));
        }
    }

    #[test]
    fn what_cannot_become_text_any_more_shows_at_once() {
        for splitter in [&[&b"a\xFF"[..]][..], &[b"\xF4", b"\x90"], &[b"ok", b"\xED\xA0"]] {
            let mut message = Fragments::text();
            assert!(!splitter.iter().all(|piece| message.add(piece)));
        }
    }

    #[test]
    fn a_text_that_ends_inside_a_character_is_none() {
        let mut message = Fragments::text();
        assert!(message.add(b"\xE2\x82"));
        assert!(matches!(message.join(), PipeInput::Failed(CloseReason::InvalidText)));
    }
}
