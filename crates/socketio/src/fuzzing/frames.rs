//! WebSocket frames: the guard against a second implementation of RFC 6455, and the guarded stream with
//! arbitrary chunks.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_http::ws::Codec;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream as _, stream};
use tokio_util::codec::Decoder as _;

use super::Choices;
use crate::transport::{
    guard::{Guard, Violation},
    guarded_stream::{FlowControl, GuardedStream},
};

/// The guard agrees with the reference function, for any chunk size.
pub fn frame_guard(data: &[u8]) {
    let mut choices = Choices(data);
    let limit = choices.below(256) * 8;
    let piece = choices.below(64) + 1;
    let bytes = choices.0;
    let mut guard = Guard::new(limit);
    let (mut at, mut ends, mut violation) = (0, Vec::new(), None);
    while at < bytes.len() && violation.is_none() {
        let chunk = &bytes[at..(at + piece).min(bytes.len())];
        match guard.follow(chunk) {
            Ok(passed) => {
                assert!(
                    (1..=chunk.len()).contains(&passed.bytes),
                    "the guard makes progress within the chunk"
                );
                at += passed.bytes;
                ends.extend(passed.frame_ended.then_some(at));
            }
            Err(found) => violation = Some(found),
        }
    }
    assert_eq!((ends, violation), reference(bytes, limit as u64));
}

/// RFC 6455 §5 over complete frames: the ends of the frames and the first violation.
fn reference(bytes: &[u8], limit: u64) -> (Vec<usize>, Option<Violation>) {
    let (mut at, mut ends, mut open) = (0, Vec::new(), None);
    while at < bytes.len() {
        match reference_frame(&bytes[at..], limit, &mut open) {
            Ok(Some(length)) => {
                at += length;
                ends.push(at);
            }
            Ok(None) => return (ends, None),
            Err(violation) => return (ends, Some(violation)),
        }
    }
    (ends, None)
}

/// The length of the first frame if it is complete.
fn reference_frame(
    bytes: &[u8],
    limit: u64,
    open: &mut Option<(u64, u32)>,
) -> Result<Option<usize>, Violation> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let (is_last, reserved, opcode) = (first >= 0x80, first & 0x70, first & 0x0F);
    let is_control = opcode >= 8;
    let is_defined = matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10);
    let fits = is_control && is_last || !is_control && open.is_some() == (opcode == 0);
    if reserved != 0 || !is_defined || !fits {
        return Err(Violation::Protocol);
    }
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second < 0x80 || is_control && second > 0x80 + 125 {
        return Err(Violation::Protocol);
    }
    let (head, length) = match second - 0x80 {
        126 => match bytes.get(2..4) {
            Some(wide) => (4, u64::from(u16::from_be_bytes([wide[0], wide[1]]))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|wide| wide.try_into().ok()) {
            Some(wide) => (10, u64::from_be_bytes(wide)),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    if head == 4 && length < 126 || head == 10 && !(0x1_0000..1 << 63).contains(&length) {
        return Err(Violation::Protocol);
    }
    if !is_control {
        let (bytes, chunks) = open.unwrap_or_default();
        if bytes + length > limit || chunks >= 128 {
            return Err(Violation::TooLarge);
        }
        *open = if is_last { None } else { Some((bytes + length, chunks + 1)) };
    }
    let whole = head + 4 + usize::try_from(length).unwrap_or(usize::MAX);
    let Some(frame) = bytes.get(..whole) else { return Ok(None) };
    let payload: Vec<_> =
        frame[head + 4..].iter().zip((0..4).cycle()).map(|(byte, i)| byte ^ frame[head + i]).collect();
    if opcode == 8 && std::str::from_utf8(payload.get(2..).unwrap_or_default()).is_err() {
        return Err(Violation::InvalidText);
    }
    Ok(Some(whole))
}

/// The codec's output behind the guard does not depend on the chunks.
pub fn frame_stream(data: &[u8]) {
    let mut choices = Choices(data);
    let limit = choices.below(256) * 8;
    let cuts: Vec<_> = (0..choices.below(8)).map(|_| choices.below(32) + 1).collect();
    let bytes = Bytes::copy_from_slice(choices.0);
    let mut rest = bytes.clone();
    let mut chunks = Vec::new();
    for cut in cuts.iter().cycle().take(bytes.len()) {
        let piece = rest.split_to((*cut).min(rest.len()));
        chunks.push(piece);
    }
    chunks.push(rest);
    chunks.retain(|piece| !piece.is_empty());
    assert_eq!(read(chunks, limit), read(vec![bytes], limit));
}

/// The decoded frames, the violation, and whether the codec failed.
fn read(chunks: Vec<Bytes>, limit: usize) -> (Vec<String>, Option<Violation>, bool) {
    let flow = Rc::new(FlowControl::default());
    let source = stream::iter(chunks.into_iter().map(Ok::<_, ()>));
    let mut guarded = GuardedStream::new(source, limit, Duration::MAX, flow.clone());
    let mut codec = Codec::new().max_size(limit);
    let (mut buffer, mut read, mut is_pending) = (BytesMut::new(), Vec::new(), false);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match codec.decode(&mut buffer) {
            Ok(Some(frame)) => {
                flow.frame_consumed();
                is_pending = false;
                read.push(format!("{frame:?}"));
                continue;
            }
            Ok(None) => assert!(!is_pending, "a pending stream has passed on a complete frame"),
            Err(_) => return (read, flow.violation(), true),
        }
        match Pin::new(&mut guarded).poll_next(&mut cx) {
            Poll::Ready(Some(Ok(chunk))) => buffer.extend_from_slice(&chunk),
            Poll::Ready(_) => return (read, flow.violation(), false),
            Poll::Pending => is_pending = true,
        }
        assert!(buffer.len() <= limit.max(125) + 14, "never more than one frame is buffered");
    }
}
