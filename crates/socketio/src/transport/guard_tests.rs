//! The guard against valid frames of RFC 6455 and invalid ones.

use proptest::prelude::*;

use super::*;

const MAX: usize = 70_000;

/// A masked client frame. The mask is zero, so the payload is readable.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Validates `bytes` in chunks of `piece` bytes. Returns the number of valid frames.
fn follow_all(bytes: &[u8], piece: usize) -> Result<usize, Violation> {
    let mut guard = Guard::new(MAX);
    let mut frames = 0;
    for mut chunk in bytes.chunks(piece.max(1)) {
        while !chunk.is_empty() {
            let passed = guard.follow(chunk)?;
            frames += usize::from(passed.frame_ended);
            chunk = &chunk[passed.bytes..];
        }
    }
    Ok(frames)
}

#[test]
fn valid_frames_are_accepted() {
    let long = vec![b'x'; MAX];
    let legal = [
        frame(0x81, b"hello"),
        frame(0x82, b""),
        frame(0x81, &long[..126]),
        frame(0x82, &long),
        frame(0x89, b"ping"),
        frame(0x88, &[0x03, 0xE8]),
        [frame(0x01, b"a"), frame(0x89, b"between"), frame(0x00, b"b"), frame(0x80, b"c")].concat(),
    ];
    let frames = [1, 1, 1, 1, 1, 1, 4];
    for (bytes, frames) in legal.iter().zip(frames) {
        assert_eq!(follow_all(bytes, bytes.len()), Ok(frames));
    }
}

#[test]
fn invalid_headers_are_refused_at_the_first_invalid_byte() {
    use Violation::{Protocol, TooLarge};
    let table: [(&str, &[u8], Violation); 19] = [
        ("2^40 bytes declared", &[0x82, 0xFF, 0, 0, 1, 0, 0, 0, 0, 0], TooLarge),
        ("2^63-1 bytes declared", &[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], TooLarge),
        ("2^31 bytes declared", &[0x82, 0xFF, 0, 0, 0, 0, 0x80, 0, 0, 0], TooLarge),
        ("one byte over the limit", &[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0x11, 0x71], TooLarge),
        ("most significant bit set", &[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 1], Protocol),
        ("two bytes in 16-bit form", &[0x82, 0xFE, 0, 2], Protocol),
        ("two bytes in 64-bit form", &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 2], Protocol),
        ("unmasked", &[0x81, 0x05], Protocol),
        ("reserved bit 1", &[0xC1], Protocol),
        ("reserved bit 2", &[0xA1], Protocol),
        ("reserved bit 3", &[0x91], Protocol),
        ("opcode 3", &[0x83], Protocol),
        ("opcode 7", &[0x87], Protocol),
        ("opcode 11", &[0x8B], Protocol),
        ("opcode 15", &[0x8F], Protocol),
        ("fragmented ping", &[0x09], Protocol),
        ("long ping", &[0x89, 0xFE], Protocol),
        ("long close", &[0x88, 0xFF], Protocol),
        ("continuation of nothing", &[0x80], Protocol),
    ];
    for (name, bytes, violation) in table {
        assert_eq!(follow_all(bytes, 1), Err(violation), "{name}");
    }
}

#[test]
fn fragments_are_bounded_in_total_bytes_and_in_number() {
    let half = vec![0; MAX / 2 + 1];
    let bytes = [frame(0x02, &half), frame(0x80, &half)].concat();
    assert_eq!(follow_all(&bytes, bytes.len()), Err(Violation::TooLarge));

    let mut many = frame(0x01, b"x");
    (0..200).for_each(|_| many.extend(frame(0x00, b"x")));
    assert_eq!(follow_all(&many, many.len()), Err(Violation::TooLarge));
}

#[test]
fn the_reason_of_a_close_frame_must_be_utf8() {
    let close = |reason: &[u8]| frame(0x88, &[&[0x03, 0xE8][..], reason].concat());
    for (bytes, want) in [
        (close("bye é".as_bytes()), Ok(1)),
        (close(b""), Ok(1)),
        (frame(0x88, b""), Ok(1)),
        (close(&[0xC3, 0x28]), Err(Violation::InvalidText)),
    ] {
        assert_eq!(follow_all(&bytes, 1), want);
        assert_eq!(follow_all(&bytes, bytes.len()), want);
    }
    let (whole, cut) = (close("é".as_bytes()), close(&[0xC3]));
    assert_eq!(follow_all(&[whole, cut].concat(), 3), Err(Violation::InvalidText), "each by itself");
    let masked = [0x88, 0x83, 1, 2, 3, 4, 0x03 ^ 1, 0xE8 ^ 2, b'x' ^ 3];
    assert_eq!(follow_all(&masked, 2), Ok(1));
    assert_eq!(follow_all(&[&masked[..], &close(b"x")].concat(), 2), Ok(2), "and with its own mask");
}

#[test]
fn a_guard_is_idle_only_between_messages() {
    let mut guard = Guard::new(MAX);
    let mut idle = |bytes: &[u8]| {
        assert_eq!(guard.follow(bytes).unwrap().bytes, bytes.len());
        guard.is_idle()
    };
    assert!(!idle(&[0x81]));
    assert!(!idle(&[0x81, 0, 0, 0, 0]));
    assert!(idle(b"a"));
    assert!(!idle(&frame(0x01, b"a")));
    assert!(!idle(&frame(0x89, b"between")));
    assert!(idle(&frame(0x80, b"b")));
}

proptest! {
    #[test]
    fn the_chunk_size_does_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1_usize..20) {
        let mut whole = frame(0x81, b"good");
        whole.extend(bytes);
        prop_assert_eq!(follow_all(&whole, piece), follow_all(&whole, whole.len()));
    }
}
