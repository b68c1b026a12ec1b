//! Collects the binary attachments of one packet. Heartbeats are allowed between them, text messages are not.

use bytes::Bytes;

use super::{DecodeError, Decoded, Packet, PacketKind, decode};
use crate::close::CloseReason;

/// Holds at most one incomplete packet.
#[derive(Debug)]
pub(crate) struct Assembler {
    max_attachments: usize,
    max_bytes: usize,
    incomplete: Option<IncompletePacket>,
}

#[derive(Debug)]
struct IncompletePacket {
    packet: Packet,
    missing: usize,
    /// The size of the attachments so far.
    bytes: usize,
}

impl Assembler {
    /// Allows `max_attachments` in one packet, and `max_bytes` in all its attachments together.
    pub(crate) fn new(max_attachments: usize, max_bytes: usize) -> Self {
        Self { max_attachments, max_bytes, incomplete: None }
    }

    /// Processes a text message. `None`: attachments must follow.
    pub(crate) fn text(&mut self, text: &str) -> Result<Option<Packet>, CloseReason> {
        if self.incomplete.is_some() {
            return Err(CloseReason::ParseError);
        }
        match decode(text, self.max_attachments)? {
            Decoded::Complete(packet) => Ok(Some(packet)),
            Decoded::Incomplete(packet, missing) => {
                self.incomplete = Some(IncompletePacket { packet, missing, bytes: 0 });
                Ok(None)
            }
        }
    }

    /// The namespace of the incomplete packet.
    pub(crate) fn incomplete_namespace(&self) -> Option<&str> {
        self.incomplete.as_ref().map(|incomplete| incomplete.packet.namespace.as_str())
    }

    /// Processes a binary message, which an earlier text must have announced. Returns the packet if it is
    /// complete.
    pub(crate) fn binary(&mut self, data: Bytes) -> Result<Option<Packet>, CloseReason> {
        let mut incomplete = self.incomplete.take().ok_or(CloseReason::ParseError)?;
        incomplete.bytes += data.len();
        if incomplete.bytes > self.max_bytes {
            return Err(CloseReason::TooLarge);
        }
        if let PacketKind::Event { attachments, .. } | PacketKind::Ack { attachments, .. } =
            &mut incomplete.packet.kind
        {
            attachments.push(data);
        }
        incomplete.missing -= 1;
        if incomplete.missing == 0 {
            return Ok(Some(incomplete.packet));
        }
        self.incomplete = Some(incomplete);
        Ok(None)
    }
}

impl From<DecodeError> for CloseReason {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed => Self::ParseError,
            DecodeError::TooManyAttachments => Self::TooManyAttachments,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembler() -> Assembler {
        Assembler::new(10, 100)
    }

    #[test]
    fn a_packet_is_complete_after_its_last_attachment() {
        let mut assembler = assembler();
        assert_eq!(assembler.text("52-[\"a\"]"), Ok(None));
        assert_eq!(assembler.binary(Bytes::from_static(b"1")), Ok(None));
        let packet = assembler.binary(Bytes::from_static(b"2")).unwrap().unwrap();
        let PacketKind::Event { attachments, .. } = packet.kind else { panic!("an event") };
        assert_eq!(attachments, [&b"1"[..], b"2"]);
        assert!(matches!(assembler.text("2[\"b\"]"), Ok(Some(_))), "and the next packet starts afresh");
    }

    #[test]
    fn a_text_between_attachments_is_refused() {
        let mut assembler = assembler();
        assert_eq!(assembler.text("51-[\"a\"]"), Ok(None));
        assert_eq!(assembler.text("2[\"b\"]"), Err(CloseReason::ParseError));
    }

    #[test]
    fn an_unannounced_binary_message_is_refused() {
        assert_eq!(assembler().binary(Bytes::new()), Err(CloseReason::ParseError));
    }

    #[test]
    fn attachments_are_bounded_together() {
        let mut assembler = assembler();
        assert_eq!(assembler.text("52-[\"a\"]"), Ok(None));
        assert_eq!(assembler.binary(Bytes::from(vec![0; 100])), Ok(None));
        assert_eq!(assembler.binary(Bytes::from_static(b"x")), Err(CloseReason::TooLarge));
    }
}
