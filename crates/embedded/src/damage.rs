//! Whether a crash or a bad disk took away what had been acked: compares the log with what it must contain. Called by
//! [`Database::open`](crate::Database::open) before SQLite sees the files, and by `check`.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use crate::{
    file::{self, beside},
    wal::{HEADER, Header, checksum},
};

/// The size of a page where the file does not have it.
const PAGE: usize = 4_096;

/// Bytes of one copy of the index's header, which has two; the last 8 are its checksum.
const INDEX: usize = 48;

/// What the log shows about the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Everything that was committed is there.
    Whole,
    /// The last transaction is not intact. It was never acked if the machine crashed while it was written.
    Torn(String),
    /// Something that was committed is lost.
    Lost(String),
}

/// Reads the log beside the database at `path`. `same_boot` means that the machine has not been started since the store was
/// last open: then the index beside the log is up to date.
pub fn examine(path: &Path, same_boot: bool) -> io::Result<Finding> {
    let index = Index::read(path);
    let mut log = match File::open(beside(path, "-wal")) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(emptied(index)),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; HEADER];
    match log.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(emptied(index)),
        Err(error) => return Err(error),
    }
    let page = page_size(path).unwrap_or(PAGE);
    let header = Header::read(&bytes, page);
    if !header.intact {
        return bad_header(&bytes, page, &mut log);
    }
    let frames = header.frames(&mut log)?;
    let index = index.filter(|index| index.salts == header.salts);
    Ok(match (frames.bad, index) {
        (Some(bad), _) if frames.proven => Finding::Lost(format!(
            "frame {bad} of the log is damaged and frames of later transactions are behind it"
        )),
        (_, Some(Index { frames: all, .. })) if all > frames.committed => Finding::Lost(format!(
            "the log has {} intact frames of {all} that were committed",
            frames.committed
        )),
        (Some(_), Some(_)) if same_boot => Finding::Whole,
        (Some(bad), _) => {
            Finding::Torn(format!("frame {bad}, in the last transaction of the log, is damaged"))
        }
        (None, _) => Finding::Whole,
    })
}

/// A log without content, although the index speaks of some.
fn emptied(index: Option<Index>) -> Finding {
    match index {
        Some(Index { frames, .. }) if frames > 0 => {
            Finding::Lost(format!("the log is empty or missing and had {frames} frames"))
        }
        _ => Finding::Whole,
    }
}

/// A log whose header is not intact, which SQLite takes for an empty one.
fn bad_header(bytes: &[u8; HEADER], page: usize, log: &mut (impl Read + Seek)) -> io::Result<Finding> {
    for guess in Header::guesses(bytes, page) {
        log.seek(SeekFrom::Start(HEADER as u64))?;
        if guess.has_frames(log)? {
            return Ok(Finding::Lost("the header of the log is damaged and frames are behind it".to_owned()));
        }
    }
    Ok(Finding::Torn("the header of the log is damaged".to_owned()))
}

fn page_size(path: &Path) -> Option<usize> {
    let mut start = [0; 18];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).ok()?;
    match u16::from_be_bytes([start[16], start[17]]) {
        1 => Some(65_536),
        size if size.is_power_of_two() && size >= 512 => Some(size.into()),
        _ => None,
    }
}

/// What the index beside the log contains about it. SQLite writes the index after it has synced the frames.
struct Index {
    salts: [u8; 8],
    frames: u32,
}

impl Index {
    /// The newest of the two copies that are intact.
    fn read(path: &Path) -> Option<Self> {
        let mut bytes = [0; 2 * INDEX];
        File::open(beside(path, "-shm")).and_then(|mut file| file.read_exact(&mut bytes)).ok()?;
        bytes.chunks_exact(INDEX).filter_map(Self::parse).max_by_key(|index| index.frames)
    }

    fn parse(copy: &[u8]) -> Option<Self> {
        let native = cfg!(target_endian = "big");
        let number = |at: usize| u32::from_ne_bytes(copy[at..at + 4].try_into().expect("four bytes"));
        let sum = checksum(native, (0, 0), &copy[..INDEX - 8]);
        let salts = copy[32..40].try_into().expect("eight bytes");
        let is_set = copy[12] == 1 && sum == (number(40), number(44));
        is_set.then(|| Self { salts, frames: number(16) })
    }
}

/// What identifies this start of the machine. Empty where the system has none.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Notes this start of the machine in the lock file.
pub fn note_boot(path: &Path) -> io::Result<()> {
    fs::write(beside(path, ".lock"), boot())
}

/// Whether the store was last open since the machine was started. Then no crash of the machine lies between.
pub fn is_same_boot(path: &Path) -> bool {
    let (now, noted) = (boot(), fs::read_to_string(beside(path, ".lock")).unwrap_or_default());
    !now.is_empty() && now == noted
}

/// Whether the log has no content.
pub fn has_no_log(path: &Path) -> bool {
    fs::metadata(file::beside(path, "-wal")).map_or(true, |about| about.len() < HEADER as u64)
}
