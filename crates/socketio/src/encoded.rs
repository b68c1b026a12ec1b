//! An event that is encoded once for all its receivers. A clone shares the bytes.

use bytes::Bytes;
use serde::Serialize;

use crate::{
    engine::{frame, payload::split_frame},
    packet,
};

/// An encoded packet: one text frame and its attachments as binary frames, in one buffer, so that no other
/// frame can be sent between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    frames: Bytes,
    position: Option<u64>,
}

impl Encoded {
    /// Encodes the event `name` of `namespace`. `args` must serialise to an array (a tuple does) of the
    /// event's arguments. `offset`, the event's position in a replayable log, becomes the last argument,
    /// where clients with recovery expect it.
    ///
    /// # Errors
    /// If `args` does not serialise to an array.
    pub fn event(
        namespace: &str,
        name: &str,
        args: &impl Serialize,
        offset: Option<&str>,
    ) -> Result<Self, serde_json::Error> {
        packet::event_text(namespace, None, name, args, 0, offset).map(|text| Self::from_packet(&text))
    }

    /// Encodes an event with binary arguments. `args` refers to them by `{"_placeholder":true,"num":N}`.
    ///
    /// # Errors
    /// If `args` does not serialise to an array.
    pub fn binary_event(
        namespace: &str,
        name: &str,
        args: &impl Serialize,
        attachments: &[Bytes],
        offset: Option<&str>,
    ) -> Result<Self, serde_json::Error> {
        let text = packet::event_text(namespace, None, name, args, attachments.len(), offset)?;
        Ok(Self::with_attachments(&text, attachments))
    }

    /// The same event with its position in a log. A client that recovers receives each position once.
    pub fn at(self, position: u64) -> Self {
        Self { position: Some(position), ..self }
    }

    /// The size in bytes as sent to one client.
    pub fn size(&self) -> usize {
        self.frames.len()
    }

    /// The position in the log, if the event has one.
    pub(crate) fn position(&self) -> Option<u64> {
        self.position
    }

    /// The same event with `offset` as its last argument. `None` if this is not an event without ack.
    pub(crate) fn with_offset(&self, offset: &str) -> Option<Self> {
        let mut attachments = self.frames.clone();
        let (first, text) = split_frame(&mut attachments)?;
        let event =
            text.strip_suffix(b"]").filter(|text| text.starts_with(b"42") || text.starts_with(b"45"))?;
        let text = [event, b",\"", offset.as_bytes(), b"\"]"].concat();
        let frames = [frame::encode(first, &text), attachments].concat();
        Some(Self { frames: frames.into(), position: self.position })
    }

    /// Whether the last argument may be a string.
    pub(crate) fn ends_with_string(&self) -> bool {
        split_frame(&mut self.frames.clone()).is_some_and(|(_, text)| text.ends_with(b"\"]"))
    }

    /// Encodes the text of a Socket.IO packet as an Engine.IO message.
    pub(crate) fn from_packet(text: &str) -> Self {
        Self { frames: frame::text(&["4", text]), position: None }
    }

    /// Encodes the text of a Socket.IO packet and its attachments.
    pub(crate) fn with_attachments(text: &str, attachments: &[Bytes]) -> Self {
        let mut frames = frame::text(&["4", text]).to_vec();
        attachments.iter().for_each(|data| frames.extend_from_slice(&frame::binary(data)));
        Self { frames: frames.into(), position: None }
    }

    /// Encodes the text of an Engine.IO packet.
    pub(crate) fn from_engine(text: &str) -> Self {
        Self { frames: frame::text(&[text]), position: None }
    }

    /// Several packets in one buffer. `None` without packets.
    pub(crate) fn joined(packets: &[Self]) -> Option<Self> {
        let frames: Vec<u8> = packets.iter().flat_map(|packet| packet.frames.iter().copied()).collect();
        (!frames.is_empty()).then(|| Self { frames: frames.into(), position: None })
    }

    /// The WebSocket frames.
    pub(crate) fn frames(&self) -> Bytes {
        self.frames.clone()
    }

    /// A copy with a buffer of its own, so that two workers do not contend for one reference count.
    pub(crate) fn unshared(&self) -> Self {
        Self { frames: Bytes::copy_from_slice(&self.frames), position: self.position }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_becomes_the_last_argument_before_the_attachments() {
        let place = serde_json::json!([{"_placeholder": true, "num": 0}]);
        for (size, args) in [(1, &place), (1000, &place), (70_000, &place), (0, &serde_json::json!([]))] {
            let data = [Bytes::from(vec![7; size])];
            let attachments = if args == &place { &data[..] } else { &[] };
            let name = "n".repeat(size.max(1));
            let plain = Encoded::binary_event("/x", &name, args, attachments, None).unwrap();
            let expected = Encoded::binary_event("/x", &name, args, attachments, Some("e.1")).unwrap();
            assert_eq!(plain.with_offset("e.1"), Some(expected));
        }
        assert_eq!(Encoded::from_packet("31[1]").with_offset("e.1"), None);
        assert_eq!(Encoded::from_packet("1").with_offset("e.1"), None);
        let ends = |args| Encoded::event("/", "a", &args, None).unwrap().ends_with_string();
        assert!(ends(serde_json::json!([1, "x"])));
        assert!(!ends(serde_json::json!(["x", 1])) && !ends(serde_json::json!([["x"]])));
    }

    #[test]
    fn an_event_is_one_unmasked_text_frame() {
        let encoded = Encoded::event("/", "a", &(1,), Some("e-1")).unwrap();
        assert_eq!(&encoded.frames()[..], b"\x81\x0f42[\"a\",1,\"e-1\"]".as_slice());
    }
}
