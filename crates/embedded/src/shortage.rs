//! Distinguishes a used-up quota from a broken disk. SQLite reports `ENOSPC` as `SQLITE_FULL`, but every other failed write as
//! `SQLITE_IOERR_WRITE`, and its safe interface does not give the system's error number. Called by the writer.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use rusqlite::{ErrorCode, ffi};

use crate::{condition::Shortage, file::beside};

/// Bytes that the trial writes: as much as a large transaction.
const TRIAL: usize = 1 << 20;

/// What the failed write lacked. None when it was another failure, or when a trial write beside the store succeeds.
pub fn of(error: &rusqlite::Error, path: &Path) -> Option<Shortage> {
    let failure = error.sqlite_error()?;
    match failure.code {
        ErrorCode::DiskFull => Some(Shortage::Space),
        ErrorCode::SystemIoFailure if failure.extended_code == ffi::SQLITE_IOERR_WRITE => lacking(path),
        _ => None,
    }
}

/// What a large write beside the store lacks now.
pub fn lacking(path: &Path) -> Option<Shortage> {
    try_write(path).err().and_then(|error| kind(&error))
}

/// Writes and syncs a file beside the store, as far into it as the store's own files reach.
pub fn try_write(path: &Path) -> io::Result<()> {
    let length = |path: &Path| fs::metadata(path).map_or(0, |about| about.len());
    let end = length(path).max(length(&beside(path, "-wal")));
    let trial = beside(path, ".trial");
    let attempt = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&trial)?;
        file.write_all_at(&vec![0x5A; TRIAL], end)?;
        file.sync_all()
    };
    let outcome = attempt();
    let _ = fs::remove_file(&trial);
    outcome
}

fn kind(error: &io::Error) -> Option<Shortage> {
    match error.kind() {
        io::ErrorKind::StorageFull => Some(Shortage::Space),
        io::ErrorKind::QuotaExceeded => Some(Shortage::Quota),
        io::ErrorKind::FileTooLarge => Some(Shortage::FileSize),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn errors_that_end_when_room_is_made_are_known_and_others_are_not() {
        let of = |errno: Errno| kind(&io::Error::from(errno));
        assert_eq!(of(Errno::ENOSPC), Some(Shortage::Space));
        assert_eq!(of(Errno::EDQUOT), Some(Shortage::Quota));
        assert_eq!(of(Errno::EFBIG), Some(Shortage::FileSize));
        for other in [Errno::EIO, Errno::EROFS, Errno::EACCES, Errno::ENODEV] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
