//! Splits large WebSocket frames into fragments (RFC 6455 §5.4) before the codec. The codec buffers a frame
//! until it is complete and keeps the buffer, so that an incomplete message would be buffered twice. Pure.
//! Used by [`super::guarded_stream`] behind the [`super::guard`], so its input is valid.

use bytes::{Bytes, BytesMut};

/// The largest payload of a frame that reaches the codec, approximately, in bytes.
pub(super) const MAX_FRAGMENT: usize = 4 * 1024;

/// The size of a header with the longest length field and the mask.
const LONGEST_HEADER: usize = 14;

/// The position in the frames of one connection.
#[derive(Debug, Default)]
pub(super) struct FrameSplitter {
    /// The header of the current frame, as far as it was received.
    header: Vec<u8>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// In a header.
    #[default]
    Header,
    /// In the payload of a small frame, which is passed on unchanged.
    Small,
    /// In the payload of a large frame.
    LargeFrame(LargeFrame),
}

/// A large frame that is not complete.
#[derive(Debug)]
struct LargeFrame {
    /// The first byte of its header: the FIN bit and the opcode.
    first: u8,
    mask: [u8; 4],
    /// Whether a fragment of it was passed on.
    has_started: bool,
    /// The payload that was not passed on, still masked.
    payload: BytesMut,
}

/// Bytes for the codec, and whether they end a frame.
pub(super) type SplitBytes = (Bytes, bool);

impl FrameSplitter {
    /// Processes bytes of one frame, at most [`MAX_FRAGMENT`] and at most to its end. Returns the bytes to
    /// pass on now.
    pub(super) fn take(&mut self, mut bytes: Bytes, ends_frame: bool) -> Option<SplitBytes> {
        if matches!(self.state, State::Header) {
            let buffered = self.header.len();
            let whole = bytes.clone();
            if !self.take_header(&mut bytes) {
                return None;
            }
            let header = std::mem::take(&mut self.header);
            if declared_length(&header) <= MAX_FRAGMENT as u64 {
                self.state = if ends_frame { State::Header } else { State::Small };
                let output = if buffered == 0 { whole } else { [&header[..], &bytes[..]].concat().into() };
                return Some((output, ends_frame));
            }
            self.state = State::LargeFrame(LargeFrame::new(&header));
        }
        match &mut self.state {
            State::LargeFrame(large) => {
                let output = large.take(&bytes, ends_frame);
                if ends_frame {
                    self.state = State::Header;
                }
                output.map(|fragment| (fragment, true))
            }
            State::Header | State::Small => {
                self.state = if ends_frame { State::Header } else { State::Small };
                Some((bytes, ends_frame))
            }
        }
    }

    /// Moves header bytes from the front of `bytes`. Returns whether the header is complete.
    fn take_header(&mut self, bytes: &mut Bytes) -> bool {
        let length = |header: &[u8]| match header.get(1).map(|second| second & 0x7F) {
            None => LONGEST_HEADER,
            Some(126) => 8,
            Some(127) => LONGEST_HEADER,
            Some(_) => 6,
        };
        while self.header.len() < length(&self.header) {
            if bytes.is_empty() {
                return false;
            }
            self.header.extend_from_slice(&bytes.split_to(1));
        }
        true
    }
}

impl LargeFrame {
    fn new(header: &[u8]) -> Self {
        let (rest, mask) = header.split_last_chunk().expect("a complete header ends with the mask");
        Self { first: rest[0], mask: *mask, has_started: false, payload: BytesMut::new() }
    }

    /// Adds payload. Returns a fragment if enough payload is buffered. The mask starts anew in each fragment,
    /// so all fragments but the last have a multiple of four bytes.
    fn take(&mut self, bytes: &[u8], is_last: bool) -> Option<Bytes> {
        self.payload.extend_from_slice(bytes);
        if !is_last && self.payload.len() < MAX_FRAGMENT {
            return None;
        }
        let length = if is_last { self.payload.len() } else { self.payload.len() / 4 * 4 };
        let opcode = if self.has_started { 0 } else { self.first & 0x0F };
        let ends_message = if is_last { self.first & 0x80 } else { 0 };
        self.has_started = true;
        let mut fragment = BytesMut::with_capacity(length + LONGEST_HEADER);
        fragment.extend_from_slice(&[ends_message | opcode]);
        match u16::try_from(length).expect("less than two fragments are buffered") {
            short @ 0..126 => fragment.extend_from_slice(&[0x80 | short as u8]),
            long => {
                fragment.extend_from_slice(&[0x80 | 126]);
                fragment.extend_from_slice(&long.to_be_bytes());
            }
        }
        fragment.extend_from_slice(&self.mask);
        fragment.extend_from_slice(&self.payload[..length]);
        let left = self.payload[length..].to_vec();
        self.payload.clear();
        self.payload.extend_from_slice(&left);
        Some(fragment.freeze())
    }
}

/// The length that a complete header declares.
fn declared_length(header: &[u8]) -> u64 {
    let extended = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    match header[1] & 0x7F {
        126 => extended(&header[2..4]),
        127 => extended(&header[2..10]),
        short => u64::from(short),
    }
}

#[cfg(test)]
mod tests {
    use actix_http::ws::{Codec, Frame, Item};
    use tokio_util::codec::Decoder as _;

    use super::*;
    use crate::transport::guard::Guard;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 20, 43, 84];
        let length = match payload.len() {
            short @ 0..126 => vec![0x80 | short as u8],
            long @ 126..0x1_0000 => [&[0xFE][..], &(long as u16).to_be_bytes()].concat(),
            long => [&[0xFF][..], &(long as u64).to_be_bytes()].concat(),
        };
        let masked: Vec<u8> =
            payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        [&[first][..], &length, &mask, &masked].concat()
    }

    /// The frames that a codec behind the splitter decodes from a stream in chunks of `size` bytes, and the
    /// codec's largest buffer.
    fn read(stream: &[u8], size: usize) -> (Vec<Frame>, usize) {
        let (mut guard, mut splitter, mut codec) =
            (Guard::new(1 << 20), FrameSplitter::default(), Codec::new().max_size(1 << 20));
        let (mut buffer, mut frames, mut most) = (BytesMut::new(), vec![], 0);
        for chunk in stream.chunks(size) {
            let mut rest = Bytes::copy_from_slice(chunk);
            while !rest.is_empty() {
                let passed = guard.follow(&rest[..rest.len().min(MAX_FRAGMENT)]).unwrap();
                let Some((output, is_whole)) = splitter.take(rest.split_to(passed.bytes), passed.frame_ended)
                else {
                    continue;
                };
                buffer.extend_from_slice(&output);
                most = most.max(buffer.len());
                let frame = codec.decode(&mut buffer).unwrap();
                assert_eq!(frame.is_some(), is_whole, "only complete frames are reported as complete");
                frames.extend(frame);
            }
        }
        assert!(buffer.is_empty());
        (frames, most)
    }

    /// The messages in `frames`, each with whether it is text. Control frames are ignored.
    fn messages(frames: Vec<Frame>) -> Vec<(bool, Vec<u8>)> {
        let (mut all, mut current) = (vec![], (false, vec![]));
        for frame in frames {
            let (data, is_text, ends) = match frame {
                Frame::Text(data) => (data, Some(true), true),
                Frame::Binary(data) => (data, Some(false), true),
                Frame::Continuation(Item::FirstText(data)) => (data, Some(true), false),
                Frame::Continuation(Item::FirstBinary(data)) => (data, Some(false), false),
                Frame::Continuation(Item::Continue(data)) => (data, None, false),
                Frame::Continuation(Item::Last(data)) => (data, None, true),
                _ => continue,
            };
            current.0 = is_text.unwrap_or(current.0);
            current.1.extend_from_slice(&data);
            if ends {
                all.push(std::mem::take(&mut current));
            }
        }
        all
    }

    #[test]
    fn messages_of_every_size_are_complete_at_any_chunk_size_and_the_codec_buffers_little() {
        let text = |length: usize| (0..length).map(|n| b'a' + (n % 26) as u8).collect::<Vec<u8>>();
        let sizes = [
            0,
            1,
            125,
            126,
            MAX_FRAGMENT - 1,
            MAX_FRAGMENT,
            MAX_FRAGMENT + 1,
            MAX_FRAGMENT + 4,
            2 * MAX_FRAGMENT,
            3 * MAX_FRAGMENT + 5,
            65_535,
            65_536,
            200_001,
        ];
        let mut stream = vec![];
        let mut sent = vec![];
        for size in sizes {
            stream.extend(frame(0x81, &text(size)));
            stream.extend(frame(0x89, b"ping"));
            sent.push((true, text(size)));
            // A message in three frames, with a ping between the first two.
            stream.extend(frame(0x02, &text(size)));
            stream.extend(frame(0x89, b"ping"));
            stream.extend(frame(0x00, &text(size)));
            stream.extend(frame(0x80, &text(7)));
            sent.push((false, [text(size), text(size), text(7)].concat()));
        }
        for size in [1, 3, 13, 1000, MAX_FRAGMENT, 40_000, stream.len()] {
            let (frames, most) = read(&stream, size);
            assert_eq!(
                frames.iter().filter(|frame| matches!(frame, Frame::Ping(_))).count(),
                2 * sizes.len()
            );
            assert!(messages(frames) == sent, "in chunks of {size}");
            assert!(most <= 2 * MAX_FRAGMENT + LONGEST_HEADER, "the codec buffers {most} bytes");
        }
    }
}
