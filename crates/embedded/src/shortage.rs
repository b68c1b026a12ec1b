//! Distinguishes a used-up quota from a broken disk. SQLite reports `ENOSPC` as `SQLITE_FULL`, but every other failed write as
//! `SQLITE_IOERR_WRITE`, and its safe interface does not return the error number of the system. Called by the writer.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use rusqlite::{ErrorCode, ffi};

use crate::{condition::Shortage, file::beside};

/// The bytes of a trial write: the size of a large transaction.
const TRIAL: usize = 1 << 20;

/// The shortage that caused a failed write. `None` for other failures, and when a trial write beside the store succeeds.
pub fn of(error: &rusqlite::Error, path: &Path) -> Option<Shortage> {
    let failure = error.sqlite_error()?;
    match failure.code {
        ErrorCode::DiskFull => Some(Shortage::Space),
        ErrorCode::SystemIoFailure if failure.extended_code == ffi::SQLITE_IOERR_WRITE => lacking(path),
        _ => None,
    }
}

/// The shortage that a trial write beside the store meets now. `None` when it succeeds.
pub fn lacking(path: &Path) -> Option<Shortage> {
    try_write(path).err().and_then(|error| kind(&error))
}

/// Writes and syncs a trial file beside the store, at the offset where the larger file of the store ends, so that limits on the file
/// size apply.
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
    fn shortages_are_distinguished_from_other_errors() {
        let of = |errno: Errno| kind(&io::Error::from(errno));
        assert_eq!(of(Errno::ENOSPC), Some(Shortage::Space));
        assert_eq!(of(Errno::EDQUOT), Some(Shortage::Quota));
        assert_eq!(of(Errno::EFBIG), Some(Shortage::FileSize));
        for other in [Errno::EIO, Errno::EROFS, Errno::EACCES, Errno::ENODEV] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
