//! Long-polling bodies (Engine.IO protocol 4, "HTTP long-polling"): packets joined by the record separator, binary ones as
//! `b` and base64. What goes out is made from the same frames that a WebSocket gets.

use base64::{
    Engine as _, alphabet,
    engine::{
        DecodePaddingMode::Indifferent,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
    },
};
use bytes::Bytes;

/// Between two packets.
const SEPARATOR: char = '\x1e';

/// The most packets that a client may put into one body.
const MAX_PACKETS: usize = 1024;

/// So many of them are received at once: fewer answers than may wait for a client.
const PART: usize = 64;

/// The most packets in one answer, however many wait: python-engineio drops the connection over one more.
const MAX_ANSWERED: usize = 16;

/// Some clients leave the padding away, and some have the alphabet of URLs.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent);

/// The body has more packets than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// The packets of a client's body, which may be empty texts: judging each is the session's.
pub(crate) fn split(body: &str) -> Result<impl Iterator<Item = &str>, TooMany> {
    let separators = body.bytes().filter(|byte| *byte == SEPARATOR as u8).take(MAX_PACKETS).count();
    if separators < MAX_PACKETS { Ok(body.split(SEPARATOR)) } else { Err(TooMany) }
}

/// The body in parts of a few packets each; in one part when it has more packets than allowed.
pub(crate) fn parts(body: &str) -> Vec<&str> {
    if split(body).is_err() {
        return vec![body];
    }
    let (mut parts, mut start, mut packets) = (Vec::new(), 0, 0);
    for (at, _) in body.match_indices(SEPARATOR) {
        packets += 1;
        if packets == PART {
            parts.push(&body[start..at]);
            (start, packets) = (at + 1, 0);
        }
    }
    parts.push(&body[start..]);
    parts
}

/// What a client sent as `b` and base64.
pub(crate) fn binary(data: &str) -> Option<Vec<u8>> {
    let is_for_urls = data.contains(['-', '_']);
    let alphabet = if is_for_urls { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode(data).ok()
}

/// A body of what was queued as WebSocket frames.
#[derive(Debug, Default)]
pub(crate) struct Body {
    text: String,
    packets: usize,
}

impl Body {
    /// Whether `frames` may join what is there. A close packet goes alone: stock clients act on it before they have handed on
    /// the packets in front of it.
    pub(crate) fn fits(&self, frames: &Bytes) -> bool {
        let is_close = frames.first() == Some(&0x88);
        self.packets == 0 || (!is_close && self.packets + count(frames) <= MAX_ANSWERED)
    }

    /// Adds every packet of `frames`, which is whole server frames.
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

    /// The body.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// How many frames there are.
fn count(frames: &Bytes) -> usize {
    let mut frames = frames.clone();
    std::iter::from_fn(|| split_frame(&mut frames)).count()
}

/// Cuts the first frame off; server frames are unmasked and whole.
fn split_frame(frames: &mut Bytes) -> Option<(u8, Bytes)> {
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
    fn a_body_comes_in_parts_of_a_few_packets_and_nothing_is_lost() {
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
        assert_eq!(parts(&"\x1e".repeat(2000)).len(), 1, "too many are judged as one");
    }
    use crate::engine::frame;

    #[test]
    fn binary_is_read_with_or_without_padding_and_in_both_alphabets() {
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
    fn a_body_takes_sixteen_packets_and_a_close_packet_only_alone() {
        let pair = Bytes::from([frame::text(&["4"]), frame::binary(&[0])].concat());
        let mut body = Body::default();
        assert!(body.fits(&frame::close(1000, "")));
        assert!(body.fits(&[pair.as_ref(); 9].concat().into()), "one that is too large goes alone");
        (0..15).for_each(|_| body.add("3"));
        assert!(body.fits(&frame::text(&["4"])));
        assert!(!body.fits(&pair));
        assert!(!body.fits(&frame::close(1000, "")));
    }

    #[test]
    fn a_body_is_split_at_every_separator() {
        let packets = |body: &str| split(body).map(|packets| packets.map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(packets("42[\"a\"]\x1e3"), Ok(vec!["42[\"a\"]".into(), "3".into()]));
        assert_eq!(packets("\x1e3"), Ok(vec![String::new(), "3".into()]));
        assert_eq!(packets(""), Ok(vec![String::new()]));
    }

    #[test]
    fn packets_in_one_body_are_bounded() {
        assert!(split(&"3\x1e".repeat(MAX_PACKETS - 1)).is_ok());
        assert!(split(&"3\x1e".repeat(MAX_PACKETS)).is_err());
    }
}
