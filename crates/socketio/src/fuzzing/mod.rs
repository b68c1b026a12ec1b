//! Invariants of the codecs and state machines for arbitrary input. One function per program in `fuzz/`; the
//! tests run them on random bytes too. Each panics if an invariant is violated.

mod frames;
mod packets;
mod states;

pub use frames::{frame_guard, frame_stream};
pub use packets::{eio_payload, sio_packet};
pub use states::machine;

/// Bytes as a source of decisions. Yields zeros at the end.
#[derive(Debug)]
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_guard_agrees_with_the_standard(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            frame_guard(&bytes);
        }

        #[test]
        fn frames_may_be_split_anywhere(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            frame_stream(&bytes);
        }

        #[test]
        fn bodies_split_and_join(bytes in "[0-6bx\u{1e}\\[\\]\"a=]{0,80}") {
            eio_payload(bytes.as_bytes());
        }

        #[test]
        fn packets_are_decoded_as_encoded(
            text in "[0-6]([0-9]-)?(/[a-z]{0,3},)?[0-9]{0,3}(\\[\"[a-z]{0,4}\"(,[0-9]{1,3}|,\\{\"_placeholder\":true,\"num\":0\\}|,1\\.5e3){0,3}\\])?",
        ) {
            sio_packet(text.as_bytes());
        }

        #[test]
        fn no_order_of_inputs_leads_to_an_illegal_state(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            machine(&bytes);
        }
    }
}
