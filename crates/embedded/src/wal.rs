//! A parser of the write-ahead log that finds its intact frames. The log is checked before SQLite opens the store, because SQLite treats
//! the first bad frame as the end of the log and drops the frames after it without an error. Format: section 4 of
//! <https://sqlite.org/fileformat2.html>. Does not open files; [`damage`](crate::damage) does.

use std::io::{self, Read};

/// The bytes of the header of the log.
pub const HEADER: usize = 32;

/// The bytes of the header of a frame.
pub const FRAME: usize = 24;

/// The magic number of the log. When the lowest bit is set, checksums are big-endian.
const MAGIC: u32 = 0x377F_0682;

/// The maximum number of bits in which the salts of a damaged frame of this generation differ from those of the header. The salts of an
/// earlier generation are random.
const CLOSE: u32 = 4;

/// The running checksum.
type Sum = (u32, u32);

/// The content of the header.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    big_endian: bool,
    page: usize,
    /// The two salts, which all frames of this generation repeat.
    pub salts: [u8; 8],
    /// The initial value of the checksums of the frames.
    sum: Sum,
    /// Whether the checksum of the header itself is correct.
    pub intact: bool,
}

/// The result of reading all frames.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Frames {
    /// The number of frames up to the end of the last transaction that SQLite will find.
    pub committed: u32,
    /// The number of the first frame (from 1) of this generation that is not intact.
    pub bad: Option<u32>,
    /// Whether an intact frame of a later transaction follows the bad frame. A transaction is synced before the next one begins, so the
    /// bad frame was once on disk.
    pub proven: bool,
}

impl Header {
    /// Parses a header. `page` is the page size of the database, which is used when the header contains an invalid one.
    pub fn read(bytes: &[u8; HEADER], page: usize) -> Self {
        let magic = word(bytes, 0);
        let stored = word(bytes, 8) as usize;
        let fits = stored.is_power_of_two() && (512..=65_536).contains(&stored);
        let big_endian = magic & 1 == 1;
        let sum = checksum(big_endian, (0, 0), &bytes[..24]);
        let intact = magic & !1 == MAGIC && fits && sum == (word(bytes, 24), word(bytes, 28));
        let salts = bytes[16..24].try_into().expect("eight bytes");
        Self { big_endian, page: if fits { stored } else { page }, salts, sum, intact }
    }

    /// The possible originals of a damaged header: each byte order with the stored and the computed checksum.
    pub fn guesses(bytes: &[u8; HEADER], page: usize) -> impl Iterator<Item = Self> {
        let read = Self::read(bytes, page);
        let stored = (word(bytes, 24), word(bytes, 28));
        [false, true].into_iter().flat_map(move |big_endian| {
            let computed = checksum(big_endian, (0, 0), &bytes[..24]);
            [stored, computed].map(|sum| Self { big_endian, page, sum, ..read })
        })
    }

    /// Checks all frames after the header. Frames of an earlier generation may be at the end of the log. A frame in between that is
    /// neither intact nor of this generation is damaged.
    pub fn frames(&self, log: &mut impl Read) -> io::Result<Frames> {
        let mut found = Frames::default();
        let mut frame = vec![0; FRAME + self.page];
        let (mut sum, mut number, mut boundary) = (self.sum, 0, false);
        let mut foreign = None;
        while fill(log, &mut frame)? {
            number += 1;
            let stored = (word(&frame, 16), word(&frame, 20));
            let own = frame[8..16] == self.salts;
            let intact = own && word(&frame, 0) != 0 && stored == self.sum_of(sum, &frame);
            let commits = own && word(&frame, 4) != 0;
            sum = stored;
            match (found.bad.or(foreign), intact) {
                (None, true) if commits => found.committed = number,
                (None, true) => {}
                (None, false) if self.is_close(&frame) => (found.bad, boundary) = (Some(number), commits),
                (None, false) => foreign = Some(number),
                (Some(_), false) => {}
                (Some(_), true) if boundary => return Ok(Frames { proven: true, ..found }),
                (Some(first), true) => (found.bad, boundary) = (Some(first), commits),
            }
        }
        Ok(found)
    }

    /// Whether the checksum of any frame continues that of the frame before it, with any salts. If so, the log had content.
    pub fn has_frames(&self, log: &mut impl Read) -> io::Result<bool> {
        let mut frame = vec![0; FRAME + self.page];
        let mut sum = self.sum;
        while fill(log, &mut frame)? {
            let stored = (word(&frame, 16), word(&frame, 20));
            if word(&frame, 0) != 0 && stored == self.sum_of(sum, &frame) {
                return Ok(true);
            }
            sum = stored;
        }
        Ok(false)
    }

    fn is_close(&self, frame: &[u8]) -> bool {
        let differ = frame[8..16].iter().zip(self.salts).map(|(one, other)| (one ^ other).count_ones());
        differ.sum::<u32>() <= CLOSE
    }

    fn sum_of(&self, before: Sum, frame: &[u8]) -> Sum {
        checksum(self.big_endian, checksum(self.big_endian, before, &frame[..8]), &frame[FRAME..])
    }
}

/// The checksum of SQLite's log: Fibonacci-weighted sums of pairs of 32-bit words.
pub fn checksum(big_endian: bool, start: Sum, bytes: &[u8]) -> Sum {
    let number = |bytes: &[u8]| {
        let bytes = bytes.try_into().expect("four bytes");
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    bytes.chunks_exact(8).fold(start, |(one, two), pair| {
        let one = one.wrapping_add(number(&pair[..4])).wrapping_add(two);
        (one, two.wrapping_add(number(&pair[4..])).wrapping_add(one))
    })
}

/// A 32-bit word of a header. Headers are big-endian.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Fills `piece` with the next bytes. False when the log ends before it is full.
fn fill(log: &mut impl Read, piece: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(piece) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
