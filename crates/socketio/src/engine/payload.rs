//! Long-polling bodies (Engine.IO protocol 4, "HTTP long-polling"): packets joined by the record separator,
//! binary ones as `b` and base64. Response bodies are built from the same frames that a WebSocket sends.

use base64::{
    Engine as _, alphabet,
    engine::{
        DecodePaddingMode::Indifferent,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
    },
};
use bytes::{Bytes, BytesMut};

use super::frame;

/// The separator of two packets (record separator).
const SEPARATOR: char = '\x1e';

/// The largest number of packets in one request body.
const MAX_PACKETS: usize = 1024;

/// The number of packets that are processed together: fewer answers than fit into a send queue.
const PACKETS_PER_PART: usize = 64;

/// The largest number of packets in one response body. python-engineio closes the connection at one more.
const MAX_RESPONSE_PACKETS: usize = 16;

/// Some clients omit the padding, and some use the URL-safe alphabet.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent);

/// The body contains more packets than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyPackets;

/// The packets of a request body. They may be empty or malformed: the session validates each.
///
/// # Errors
/// If the body contains more than [`MAX_PACKETS`] packets.
pub(crate) fn split(body: &str) -> Result<impl Iterator<Item = &str>, TooManyPackets> {
    let separators = body.bytes().filter(|byte| *byte == SEPARATOR as u8).take(MAX_PACKETS).count();
    if separators < MAX_PACKETS { Ok(body.split(SEPARATOR)) } else { Err(TooManyPackets) }
}

/// The body in parts of [`PACKETS_PER_PART`] packets. One part if the body contains more packets than
/// allowed.
pub(crate) fn parts(body: &str) -> Vec<&str> {
    if split(body).is_err() {
        return vec![body];
    }
    let (mut parts, mut start, mut packets) = (Vec::new(), 0, 0);
    for (at, _) in body.match_indices(SEPARATOR) {
        packets += 1;
        if packets == PACKETS_PER_PART {
            parts.push(&body[start..at]);
            (start, packets) = (at + 1, 0);
        }
    }
    parts.push(&body[start..]);
    parts
}

/// Decodes the base64 text of a `b` packet. `None` if it is invalid.
pub(crate) fn binary(data: &str) -> Option<Vec<u8>> {
    let is_for_urls = data.contains(['-', '_']);
    let alphabet = if is_for_urls { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode(data).ok()
}

/// The frames of a WebSocket with base64: each binary frame of `frames` becomes a text frame.
pub(crate) fn without_binary(mut frames: Bytes) -> Bytes {
    let mut converted = BytesMut::with_capacity(frames.len());
    while let Some((first, payload)) = split_frame(&mut frames) {
        match first {
            0x82 => converted.extend_from_slice(&frame::text(&["b", &STANDARD.encode(&payload)])),
            _ => converted.extend_from_slice(&frame::encode(first, &payload)),
        }
    }
    converted.freeze()
}

/// A response body, built from queued WebSocket frames.
#[derive(Debug, Default)]
pub(crate) struct Body {
    text: String,
    packets: usize,
}

impl Body {
    /// Whether `frames` may be added. A close packet is sent in a body of its own, because stock clients
    /// process it before the packets in front of it.
    pub(crate) fn fits(&self, frames: &Bytes) -> bool {
        let is_close = frames.first() == Some(&0x88);
        self.packets == 0 || (!is_close && self.packets + count(frames) <= MAX_RESPONSE_PACKETS)
    }

    /// Adds every packet of `frames`, which contains complete server frames.
    pub(crate) fn add_frames(&mut self, mut frames: Bytes) {
        while let Some((first, payload)) = split_frame(&mut frames) {
            match first {
                0x82 => self.add(&format!("b{}", STANDARD.encode(&payload))),
                0x88 => self.add("1"),
                _ => self.add(&String::from_utf8_lossy(&payload)),
            }
        }
    }

    /// Adds one packet.
    pub(crate) fn add(&mut self, packet: &str) {
        if self.packets > 0 {
            self.text.push(SEPARATOR);
        }
        self.text.push_str(packet);
        self.packets += 1;
    }

    /// The text of the body.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// The number of frames.
fn count(frames: &Bytes) -> usize {
    let mut frames = frames.clone();
    std::iter::from_fn(|| split_frame(&mut frames)).count()
}

/// Splits off the first frame. Server frames are unmasked and complete.
pub(crate) fn split_frame(frames: &mut Bytes) -> Option<(u8, Bytes)> {
    let first = *frames.first()?;
    let (start, length) = match *frames.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(frames.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(frames.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, usize::from(length)),
    };
    let mut frame = frames.split_to((start + length).min(frames.len()));
    Some((first, frame.split_off(start.min(frame.len()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_split_into_parts_without_loss() {
        for count in [1, 63, 64, 65, 128, 129, 1024] {
            let packets: Vec<String> = (0..count).map(|n| format!("4{n}")).collect();
            let body = packets.join("\x1e");
            let parts = parts(&body);
            assert!(
                parts.iter().all(|part| split(part).is_ok_and(|packets| packets.count() <= 64)),
                "{count}"
            );
            assert_eq!(parts.join("\x1e"), body, "{count}");
        }
        assert_eq!(parts(&"\x1e".repeat(2000)).len(), 1, "a body with too many packets is one part");
    }
    #[test]
    fn base64_is_decoded_with_or_without_padding_and_in_both_alphabets() {
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(binary(text).as_deref(), Some(&[0xfb, 0xff][..]), "{text}");
        }
        for text in ["+_8=", "a", "a b=", "=", "é"] {
            assert_eq!(binary(text), None, "{text}");
        }
    }

    #[test]
    fn frames_become_packets() {
        let long = "x".repeat(70_000);
        let mut body = Body::default();
        body.add_frames(frame::text(&["4", "2[\"a\"]"]));
        body.add_frames([frame::text(&["4", &long]), frame::binary(&[0, 1, 2])].concat().into());
        body.add_frames(frame::close(1000, ""));
        assert_eq!(body.packets, 4);
        assert_eq!(body.into_text(), format!("42[\"a\"]\x1e4{long}\x1ebAAEC\x1e1"));
    }

    #[test]
    fn binary_frames_become_text_frames_with_base64() {
        let frames = [frame::text(&["4"]), frame::binary(&[0, 1, 2]), frame::close(1000, "x")].concat();
        let text = [frame::text(&["4"]), frame::text(&["bAAEC"]), frame::close(1000, "x")].concat();
        assert_eq!(without_binary(frames.into()), text);
        let long = without_binary(frame::binary(&[0; 60_000]));
        assert_eq!(long, frame::text(&["b", &"A".repeat(80_000)]));
    }

    #[test]
    fn a_body_has_at_most_sixteen_packets_and_a_close_packet_only_alone() {
        let pair = Bytes::from([frame::text(&["4"]), frame::binary(&[0])].concat());
        let mut body = Body::default();
        assert!(body.fits(&frame::close(1000, "")));
        assert!(
            body.fits(&[pair.as_ref(); 9].concat().into()),
            "frames beyond the limit are sent in a body of their own"
        );
        (0..15).for_each(|_| body.add("3"));
        assert!(body.fits(&frame::text(&["4"])));
        assert!(!body.fits(&pair));
        assert!(!body.fits(&frame::close(1000, "")));
    }

    #[test]
    fn packets_in_one_body_are_bounded() {
        assert!(split(&"3\x1e".repeat(MAX_PACKETS - 1)).is_ok());
        assert!(split(&"3\x1e".repeat(MAX_PACKETS)).is_err());
    }
}
