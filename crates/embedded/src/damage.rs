//! Detection of acknowledged transactions that a crash or a bad disk has removed: compares the log with its index. Called by
//! [`Database::open`](crate::Database::open) before SQLite opens the files, and by `check`.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{
    file::{self, beside},
    wal::{FRAME, HEADER, Header, checksum},
};

/// The page size in bytes that is assumed when the database file does not contain one.
const PAGE: usize = 4_096;

/// The bytes of one of the two copies of the index's header. The last 8 bytes are its checksum. The number of frames that are written
/// back follows the two copies.
const INDEX: usize = 48;

/// The result of examining the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// All committed transactions are present.
    Whole,
    /// The last transaction is not intact. If the machine crashed during its write, it was never acknowledged.
    Torn(String),
    /// The log is missing or empty, although its index counts frames that are not in the database. Unless another program has written
    /// them back since, committed transactions are lost.
    Emptied(String),
    /// Committed transactions are lost.
    Lost(String),
}

/// Examines the log of the database at `path`. `same_boot` means that the machine has not restarted since the store was last open, so
/// that the index of the log is up to date.
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

/// The finding for a log without content, whose index may count frames.
fn emptied(index: Option<Index>) -> Finding {
    match index {
        Some(Index { frames, written_back, .. }) if frames > written_back => {
            Finding::Emptied(format!("the log is empty or missing and had {frames} frames"))
        }
        _ => Finding::Whole,
    }
}

/// The finding for a log whose header is not intact. SQLite treats such a log as empty.
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

/// The content of the index (`-shm`) of the log. SQLite writes the index after it has synced the frames.
pub struct Index {
    salts: [u8; 8],
    /// The number of frames of the log that belong to committed transactions.
    pub frames: u32,
    /// The number of frames that are written back into the database and synced there.
    written_back: u32,
    /// The bytes of a page.
    page: u64,
    /// The number of pages of the database after all frames are written back.
    pages: u32,
}

impl Index {
    /// Reads the index. Of the two copies of its header, the second is written first, so it is the newer one when it is intact. `None`
    /// when no copy is intact. It opens and closes the file, which drops the locks of this process on it, so this process must not have
    /// the store open.
    pub fn read(path: &Path) -> Option<Self> {
        Self::read_file(&File::open(beside(path, "-shm")).ok()?)
    }

    /// Reads the index from its open file.
    pub fn read_file(file: &File) -> Option<Self> {
        let mut bytes = [0; 2 * INDEX + 4];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let written_back = u32::from_ne_bytes(bytes[2 * INDEX..].try_into().expect("four bytes"));
        let mut copies = bytes[..2 * INDEX].chunks_exact(INDEX).rev();
        copies.find_map(|copy| Self::parse(copy, written_back))
    }

    fn parse(copy: &[u8], written_back: u32) -> Option<Self> {
        let native = cfg!(target_endian = "big");
        let number = |at: usize| u32::from_ne_bytes(copy[at..at + 4].try_into().expect("four bytes"));
        let sum = checksum(native, (0, 0), &copy[..INDEX - 8]);
        let salts = copy[32..40].try_into().expect("eight bytes");
        let page = match u16::from_ne_bytes([copy[14], copy[15]]) {
            1 => 65_536,
            size => size.into(),
        };
        let is_set = copy[12] == 1 && sum == (number(40), number(44));
        is_set.then(|| Self { salts, frames: number(16), written_back, page, pages: number(20) })
    }

    /// The minimum length in bytes of a log that contains all frames.
    pub fn log_bytes(&self) -> u64 {
        match u64::from(self.frames) {
            0 => 0,
            frames => HEADER as u64 + frames * (FRAME as u64 + self.page),
        }
    }

    /// The length in bytes of the database after all frames are written back.
    pub fn database_bytes(&self) -> u64 {
        u64::from(self.pages) * self.page
    }
}

/// Whether the log is missing or has no content.
pub fn has_no_log(path: &Path) -> bool {
    fs::metadata(file::beside(path, "-wal")).map_or(true, |about| about.len() < HEADER as u64)
}
