//! Validates WebSocket frame headers (RFC 6455 §5) before payload is buffered: the codec would buffer any
//! length that a header declares. Pure. Used by [`super::guarded_stream`].

/// The opcode of a close frame.
const CLOSE: u8 = 8;

/// The largest number of frames of one message.
const MAX_FRAGMENTS: usize = 128;

/// Why a frame is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A violation of RFC 6455. Close code 1002.
    Protocol,
    /// The payload limit is exceeded. Close code 1009.
    TooLarge,
    /// The reason of a close frame is not UTF-8. Close code 1007.
    InvalidText,
    /// A message was not complete within the body timeout. Close code 1008.
    TooSlow,
}

/// The position in the frames of one connection. Buffers at most a header and the payload of a close frame.
#[derive(Debug)]
pub(crate) struct Guard {
    max_payload: u64,
    header: Vec<u8>,
    /// The remaining payload bytes of the current frame. `None` while in a header.
    remaining: Option<u64>,
    /// The bytes and fragments so far of an incomplete fragmented message.
    message: Option<(u64, usize)>,
    /// The payload so far of an incomplete close frame, still masked.
    close_payload: Vec<u8>,
}

/// The valid part of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The number of valid bytes.
    pub(crate) bytes: usize,
    /// Whether they end a frame.
    pub(crate) frame_ended: bool,
}

impl Guard {
    /// The guard of a new connection.
    pub(crate) fn new(max_payload: usize) -> Self {
        Self {
            max_payload: max_payload as u64,
            header: Vec::with_capacity(14),
            remaining: None,
            message: None,
            close_payload: Vec::new(),
        }
    }

    /// Whether no frame and no message is incomplete.
    pub(crate) fn is_idle(&self) -> bool {
        self.header.is_empty() && self.message.is_none()
    }

    /// Validates `chunk` up to the end of the current frame.
    pub(crate) fn follow(&mut self, chunk: &[u8]) -> Result<Passed, Violation> {
        let mut bytes = 0;
        while self.remaining.is_none() {
            let Some(byte) = chunk.get(bytes) else { return Ok(Passed { bytes, frame_ended: false }) };
            self.header.push(*byte);
            bytes += 1;
            self.check_header()?;
        }
        let remaining = self.remaining.unwrap_or(0);
        let here = remaining.min((chunk.len() - bytes) as u64);
        let payload = &chunk[bytes..bytes + here as usize];
        bytes += payload.len();
        if self.header[0] & 0x0F == CLOSE {
            self.close_payload.extend_from_slice(payload);
        }
        self.remaining = Some(remaining - here).filter(|remaining| *remaining > 0);
        if self.remaining.is_none() {
            self.check_close_reason()?;
            self.header.clear();
            self.close_payload.clear();
        }
        Ok(Passed { bytes, frame_ended: self.remaining.is_none() })
    }

    /// Validates the header as far as it was received. Sets `remaining` once it is complete.
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
        if header_is_complete(&self.header, length_bytes) {
            self.remaining = Some(declared_length(&self.header));
        }
        Ok(())
    }

    /// The reason behind a close frame's code must be UTF-8 (§8.1). The codec reports an invalid one like an
    /// invalid opcode.
    fn check_close_reason(&self) -> Result<(), Violation> {
        let mask = &self.header[self.header.len() - 4..];
        let reason =
            self.close_payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).skip(2);
        match String::from_utf8(reason.collect()) {
            Ok(_) => Ok(()),
            Err(_) => Err(Violation::InvalidText),
        }
    }

    fn check_first(&self, first: u8) -> Result<(), Violation> {
        let is_valid = match first & 0x0F {
            0 => self.message.is_some(),
            1 | 2 => self.message.is_none(),
            8..=10 => first & 0x80 != 0,
            _ => false,
        };
        if is_valid && first & 0x70 == 0 { Ok(()) } else { Err(Violation::Protocol) }
    }

    /// The length must be in its shortest form and, together with the message's earlier fragments, within the
    /// limit.
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

/// The mask bit must be set, and a control frame must be short.
fn check_second(first: u8, second: u8) -> Result<(), Violation> {
    let is_masked = second & 0x80 != 0;
    let is_long_control = first & 0x08 != 0 && second & 0x7F > 125;
    if is_masked && !is_long_control { Ok(()) } else { Err(Violation::Protocol) }
}

fn header_is_complete(header: &[u8], length_bytes: usize) -> bool {
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

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
