//! Server-to-client WebSocket frames (RFC 6455 §5.2): unmasked, never fragmented.

use bytes::{BufMut, Bytes, BytesMut};

/// FIN bit and opcode of the frames that a server sends.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

/// One text frame with the concatenation of `parts`.
pub(crate) fn text(parts: &[&str]) -> Bytes {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut frame = header(TEXT, length);
    parts.iter().for_each(|part| frame.put_slice(part.as_bytes()));
    frame.freeze()
}

/// One binary frame.
pub(crate) fn binary(data: &[u8]) -> Bytes {
    encode(BINARY, data)
}

/// A close frame (§5.5.1) with a status code and a reason of at most 123 bytes. The reason may be empty.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let mut frame = header(CLOSE, 2 + reason.len());
    frame.put_u16(code);
    frame.put_slice(reason.as_bytes());
    frame.freeze()
}

/// One frame with this first byte.
pub(crate) fn encode(first: u8, payload: &[u8]) -> Bytes {
    let mut frame = header(first, payload.len());
    frame.put_slice(payload);
    frame.freeze()
}

fn header(first: u8, length: usize) -> BytesMut {
    let mut frame = BytesMut::with_capacity(length + 10);
    frame.put_u8(first);
    match length {
        0..=125 => frame.put_u8(length as u8),
        126..=0xFFFF => {
            frame.put_u8(126);
            frame.put_u16(length as u16);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_use_the_shortest_form() {
        for (length, head) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xFF, 0xFF]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = text(&[&"x".repeat(length)]);
            assert_eq!(&frame[..head.len()], head);
            assert_eq!(frame.len(), head.len() + length);
        }
    }

    #[test]
    fn a_close_frame_contains_its_code_and_reason() {
        assert_eq!(&close(1009, "")[..], [0x88, 2, 0x03, 0xF1]);
        assert_eq!(&close(1013, "slow")[..], [0x88, 6, 0x03, 0xF5, b's', b'l', b'o', b'w']);
    }
}
