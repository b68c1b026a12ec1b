//! Limits of HTTP/2 frames and bytes of a connection. The meter parses frame headers (RFC 9113 §4.1) of the received bytes before
//! the HTTP/2 library reads them. No I/O: time is an argument.
//!
//! Frames of calls have a rate limit: above it the connection is read more slowly. Frames without a call (control, empty and unknown
//! frames) have a budget: above it the connection is closed.

use std::time::{Duration, Instant};

/// The client's connection preface (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// Length of a frame header in bytes.
const HEADER: usize = 9;

/// Rate and burst of frames of all types. A chat node sends at most one frame per change of a user's connections.
const FRAMES: Rate = Rate { per_second: 5_000.0, burst: 20_000.0 };

/// Rate and burst in bytes. The snapshot of a node with 100,000 users has 4 MiB.
const BYTES: Rate = Rate { per_second: 8e6, burst: 32e6 };

/// Rate and burst of frames without a call. Clients send such frames for each call (PING, WINDOW_UPDATE), so a call adds one to the
/// budget.
const CONTROL: Rate = Rate { per_second: 100.0, burst: 1_000.0 };

/// A rate per second and a burst.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

/// A token bucket. The number of tokens can become negative.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Instant,
}

/// Frame and byte limits of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    /// Number of bytes of the preface or of a frame's payload that were not received yet.
    skip: usize,
    header: [u8; HEADER],
    /// Number of received bytes of the header.
    header_length: usize,
    /// Whether a complete frame header was received.
    has_begun: bool,
    frames: Bucket,
    bytes: Bucket,
    control: Bucket,
}

/// Error: the connection has exceeded its budget of frames without a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flood {
    /// The type of the last frame.
    pub(super) frame: &'static str,
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, filled: now }
    }

    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + seconds * self.rate.per_second).min(self.rate.burst);
        self.filled = now;
    }

    /// Time until the number of tokens is not negative.
    fn wait(&self) -> Duration {
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.rate.per_second)
    }
}

impl Meter {
    /// A meter for a new connection.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE,
            header: [0; HEADER],
            header_length: 0,
            has_begun: false,
            frames: Bucket::full(FRAMES, now),
            bytes: Bucket::full(BYTES, now),
            control: Bucket::full(CONTROL, now),
        }
    }

    /// Whether the client has sent its preface and a frame header.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Counts received `bytes`. Returns the time to wait before the next read.
    ///
    /// # Errors
    /// [`Flood`] when the connection must be closed.
    pub(super) fn count(&mut self, mut bytes: &[u8], now: Instant) -> Result<Duration, Flood> {
        for bucket in [&mut self.frames, &mut self.bytes, &mut self.control] {
            bucket.fill(now);
        }
        self.bytes.tokens -= bytes.len() as f64;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEADER - self.header_length).min(bytes.len());
            self.header[self.header_length..self.header_length + taken].copy_from_slice(&bytes[..taken]);
            self.header_length += taken;
            bytes = &bytes[taken..];
            if self.header_length == HEADER {
                self.header_length = 0;
                self.frame()?;
            }
        }
        Ok(self.frames.wait().max(self.bytes.wait()))
    }

    /// Counts a frame whose header is complete.
    fn frame(&mut self) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.skip = length;
        self.has_begun = true;
        self.frames.tokens -= 1.0;
        let (frame, cost) = cost(kind, flags, length);
        self.control.tokens = (self.control.tokens - cost).min(self.control.rate.burst);
        if self.control.tokens < 0.0 { Err(Flood { frame }) } else { Ok(()) }
    }
}

/// The name of a frame type, and its cost for the budget of frames without a call.
fn cost(kind: u8, flags: u8, length: usize) -> (&'static str, f64) {
    let ends_stream = flags & 0x1 != 0;
    match kind {
        0 if length > 0 || ends_stream => ("DATA", 0.0),
        0 => ("empty DATA", 1.0),
        1 => ("HEADERS", -1.0),
        2 => ("PRIORITY", 1.0),
        // Twice what its call adds, because a call that is cancelled at once is useless work.
        3 => ("RST_STREAM", 2.0),
        4 => ("SETTINGS", 1.0),
        5 => ("PUSH_PROMISE", 1.0),
        6 => ("PING", 1.0),
        7 => ("GOAWAY", 1.0),
        8 => ("WINDOW_UPDATE", 1.0),
        9 => ("CONTINUATION", 1.0),
        _ => ("unknown", 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER + length, 0);
        bytes
    }

    /// A meter that has received the preface.
    fn meter(now: Instant) -> Meter {
        let mut meter = Meter::new(now);
        assert_eq!(meter.count(&[b'P'; PREFACE], now), Ok(Duration::ZERO));
        assert!(!meter.has_begun());
        meter
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_split() {
        let now = Instant::now();
        let stream =
            [frame(4, 0, 18), frame(1, 4, 40), frame(0, 0, 300), frame(6, 0, 8), frame(0, 1, 0)].concat();
        for size in [1, 2, 7, 9, 10, 64, 1000] {
            let mut meter = meter(now);
            for piece in stream.chunks(size) {
                assert_eq!(meter.count(piece, now), Ok(Duration::ZERO));
            }
            assert_eq!((meter.skip, meter.header_length), (0, 0), "in pieces of {size}");
            assert_eq!(FRAMES.burst - meter.frames.tokens, 5.0, "in pieces of {size}");
        }
    }

    #[test]
    fn every_frame_type_without_a_call_has_a_budget() {
        for (kind, length) in [
            (0, 0),
            (2, 5),
            (3, 4),
            (4, 0),
            (4, 6),
            (5, 4),
            (6, 8),
            (7, 8),
            (8, 4),
            (9, 0),
            (9, 9),
            (10, 0),
            (200, 50),
        ] {
            let now = Instant::now();
            let mut meter = meter(now);
            let bytes = frame(kind, 0, length);
            let sent = (0..10_000).take_while(|_| meter.count(&bytes, now).is_ok()).count();
            assert!((500..=1000).contains(&sent), "{sent} frames of type {kind} with {length} bytes");
            let later = now + Duration::from_secs(3600);
            assert!(meter.count(&bytes, later).is_ok(), "the budget refills");
        }
    }

    #[test]
    fn calls_that_are_reset_at_once_have_a_budget_and_calls_with_pings_do_not() {
        let now = Instant::now();
        let (reset, pinged) =
            ([frame(1, 4, 20), frame(3, 0, 4)].concat(), [frame(1, 5, 20), frame(6, 0, 8)].concat());
        let mut first = meter(now);
        assert!((0..2_000).any(|_| first.count(&reset, now).is_err()));
        let mut second = meter(now);
        assert!((0..2_000).all(|_| second.count(&pinged, now).is_ok()));
    }

    #[test]
    fn calls_and_bytes_are_rate_limited_and_never_a_flood() {
        let start = Instant::now();
        for (bytes, burst, per_second) in
            [(frame(1, 5, 10), 20_000.0, 5_000.0), (frame(0, 0, 16_000), 32e6 / 16_009.0, 8e6 / 16_009.0)]
        {
            let (mut meter, mut now, mut frames) = (meter(start), start, 0.0);
            while now < start + Duration::from_secs(10) {
                now += meter.count(&bytes, now).unwrap();
                frames += 1.0;
            }
            let limit = burst + 10.0 * per_second + 2.0;
            assert!((limit * 0.99..limit).contains(&frames), "{frames} frames in 10 s, {limit} expected");
        }
    }

    /// Load of a chat node's busiest second: 4,000 users connect and disconnect; acks and window updates.
    #[test]
    fn a_busy_node_never_waits() {
        let now = Instant::now();
        let mut meter = meter(now);
        for n in 0..8_000 {
            assert_eq!(meter.count(&frame(0, 0, 40), now), Ok(Duration::ZERO));
            if n % 100 == 0 {
                assert_eq!(meter.count(&[frame(6, 1, 8), frame(8, 0, 4)].concat(), now), Ok(Duration::ZERO));
            }
        }
    }
}
