//! Stands between the socket and the WebSocket codec and looks at frame headers (RFC 6455 §5) before anything is
//! buffered for them: the codec would wait for whatever length a header declares. Called by the pipe in [`super::ws`].
//!
//! It also lets only one frame through at a time, so that a flood of tiny frames waits in the kernel and not here.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;

/// The most frames one message may be cut into.
const MAX_FRAGMENTS: usize = 128;

/// Why a frame is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Against RFC 6455: close with 1002.
    Protocol,
    /// Over the payload limit: close with 1009.
    TooLarge,
}

/// Follows the frames of one connection, byte by byte, keeping at most a header.
#[derive(Debug)]
pub(crate) struct Guard {
    max_payload: u64,
    header: Vec<u8>,
    /// Payload bytes of the current frame still to come; none while in a header.
    left: Option<u64>,
    /// A fragmented message under way: its bytes and fragments so far.
    message: Option<(u64, usize)>,
}

/// How far the guard followed a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Bytes that may go on.
    pub(crate) bytes: usize,
    /// Whether they end a frame.
    pub(crate) frame_ended: bool,
}

impl Guard {
    /// A guard at the start of a connection.
    pub(crate) fn new(max_payload: usize) -> Self {
        Self { max_payload: max_payload as u64, header: Vec::with_capacity(14), left: None, message: None }
    }

    /// Follows `chunk` up to the end of the current frame at most.
    pub(crate) fn follow(&mut self, chunk: &[u8]) -> Result<Passed, Violation> {
        let mut bytes = 0;
        while self.left.is_none() {
            let Some(byte) = chunk.get(bytes) else { return Ok(Passed { bytes, frame_ended: false }) };
            self.header.push(*byte);
            bytes += 1;
            self.check_header()?;
        }
        let left = self.left.unwrap_or(0);
        let here = left.min((chunk.len() - bytes) as u64);
        bytes += here as usize;
        self.left = Some(left - here).filter(|left| *left > 0);
        if self.left.is_none() {
            self.header.clear();
        }
        Ok(Passed { bytes, frame_ended: self.left.is_none() })
    }

    /// Checks what is known of the header; once it is whole, `left` is set.
    fn check_header(&mut self) -> Result<(), Violation> {
        let header = self.header.as_slice();
        let (first, second) = match *header {
            [first] => return self.check_first(first),
            [first, second, ..] => (first, second),
            [] => return Ok(()),
        };
        if header.len() == 2 {
            check_second(first, second)?;
        }
        let length_bytes = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if header.len() == 2 + length_bytes {
            self.check_length(first)?;
        }
        if header_is_whole(&self.header, length_bytes) {
            self.left = Some(declared_length(&self.header));
        }
        Ok(())
    }

    fn check_first(&self, first: u8) -> Result<(), Violation> {
        let legal = match first & 0x0F {
            0 => self.message.is_some(),
            1 | 2 => self.message.is_none(),
            8..=10 => first & 0x80 != 0,
            _ => false,
        };
        if legal && first & 0x70 == 0 { Ok(()) } else { Err(Violation::Protocol) }
    }

    /// The length is known: it must be in its shortest form and, with the fragments before it, within the limit.
    fn check_length(&mut self, first: u8) -> Result<(), Violation> {
        let length = declared_length(&self.header);
        let shortest = match self.header[1] & 0x7F {
            126 => length > 125,
            127 => length > 0xFFFF && length >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(Violation::Protocol);
        }
        if first & 0x08 != 0 {
            return Ok(());
        }
        let (before, fragments) = self.message.unwrap_or((0, 0));
        if before.saturating_add(length) > self.max_payload || fragments + 1 > MAX_FRAGMENTS {
            return Err(Violation::TooLarge);
        }
        let is_last = first & 0x80 != 0;
        self.message = (!is_last).then_some((before + length, fragments + 1));
        Ok(())
    }
}

/// The mask bit is set, and a control frame is short.
fn check_second(first: u8, second: u8) -> Result<(), Violation> {
    let is_masked = second & 0x80 != 0;
    let is_long_control = first & 0x08 != 0 && second & 0x7F > 125;
    if is_masked && !is_long_control { Ok(()) } else { Err(Violation::Protocol) }
}

fn header_is_whole(header: &[u8], length_bytes: usize) -> bool {
    header.len() == 2 + length_bytes + 4
}

fn declared_length(header: &[u8]) -> u64 {
    let extended =
        |count: usize| header[2..2 + count].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    match header[1] & 0x7F {
        126 => extended(2),
        127 => extended(8),
        short => u64::from(short),
    }
}

/// What the guarded stream and the pipe behind it tell each other.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// A whole frame is on its way to the pipe, which has not yet seen it.
    in_flight: Cell<bool>,
    violation: Cell<Option<Violation>>,
}

impl Flow {
    /// The pipe has seen a frame: the next may come.
    pub(crate) fn seen(&self) {
        self.in_flight.set(false);
    }

    /// Why the stream ended, if the guard ended it.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.get()
    }
}

/// The client's bytes, as far as the guard lets them through. Ends at the first violation.
pub(crate) struct Guarded<S> {
    inner: S,
    guard: Guard,
    flow: Rc<Flow>,
    rest: Bytes,
}

impl<S> Guarded<S> {
    /// Guards `inner`; `flow` is shared with the pipe.
    pub(crate) fn new(inner: S, max_payload: usize, flow: Rc<Flow>) -> Self {
        Self { inner, guard: Guard::new(max_payload), flow, rest: Bytes::new() }
    }
}

impl<S, E> Stream for Guarded<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = Result<Bytes, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.flow.violation().is_some() {
            return Poll::Ready(None);
        }
        if this.flow.in_flight.get() {
            // No waker: the codec holds a whole frame, so the pipe polls again as soon as it has seen it.
            return Poll::Pending;
        }
        while this.rest.is_empty() {
            match Pin::new(&mut this.inner).poll_next(cx) {
                Poll::Ready(Some(Ok(chunk))) => this.rest = chunk,
                // A connection that breaks off has ended; the codec would mix the error up with its own.
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        match this.guard.follow(&this.rest) {
            Ok(passed) => {
                this.flow.in_flight.set(passed.frame_ended);
                Poll::Ready(Some(Ok(take(&mut this.rest, passed.bytes))))
            }
            Err(violation) => {
                this.flow.violation.set(Some(violation));
                Poll::Ready(None)
            }
        }
    }
}

/// Takes the first `count` bytes. What is left over keeps the server's whole read buffer alive, so nothing is left of nothing.
fn take(rest: &mut Bytes, count: usize) -> Bytes {
    if count == rest.len() { std::mem::take(rest) } else { rest.split_to(count) }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
