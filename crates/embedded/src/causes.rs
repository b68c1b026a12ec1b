//! The cause of an error of the operating system, as a text with a remedy. SQLite reports most of these errors as "disk I/O error" or
//! "unable to open database file". Called where a store is opened and where a backup is written.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    libc::EPERM,
    sys::{
        statfs::{FsType, statfs},
        statvfs::statvfs,
    },
    unistd::Uid,
};
use rusqlite::ErrorCode;

use crate::{
    Error,
    file::beside,
    refusals::{is_lock, locked},
    shortage,
};

/// Replaces the error of a start by [`Error::Refused`] when the operating system gives a cause.
pub fn with_cause(path: &Path, error: Error) -> Error {
    cause(path, &error).map_or(error, |(path, what)| Error::Refused { path, what })
}

/// Why a file at `path` could not be opened or written, and a remedy, when the operating system gives a cause. For copies of a store.
pub fn cause_of_failure(path: &Path, error: &Error) -> Option<String> {
    match error {
        Error::Refused { what, .. } => Some(what.clone()),
        error => cause(path, error).map(|(_, what)| what),
    }
}

fn cause(path: &Path, error: &Error) -> Option<(PathBuf, String)> {
    match error {
        Error::File { path, source } => cause_of(path, source).map(|what| (path.clone(), what)),
        Error::Open { source, .. } | Error::Migration { source, .. } | Error::Sqlite(source)
            if is_lock(source) =>
        {
            Some((path.to_owned(), locked(path)))
        }
        Error::Open { source, .. } | Error::Migration { source, .. } | Error::Sqlite(source) => {
            probe(path, source)
        }
        _ => None,
    }
}

/// Repeats the operations at which SQLite failed, to get the error of the system: opens each file, then writes a trial file.
fn probe(path: &Path, error: &rusqlite::Error) -> Option<(PathBuf, String)> {
    let machine = [
        ErrorCode::SystemIoFailure,
        ErrorCode::DiskFull,
        ErrorCode::CannotOpen,
        ErrorCode::ReadOnly,
        ErrorCode::PermissionDenied,
    ];
    let code = error.sqlite_error_code().filter(|code| machine.contains(code))?;
    let files = ["", "-wal", "-shm"].map(|suffix| beside(path, suffix));
    let unusable = files.into_iter().find_map(|file| {
        let refusal = File::options().read(true).write(true).open(&file).err()?;
        (refusal.kind() != ErrorKind::NotFound).then(|| cause_of(&file, &refusal))?.map(|what| (file, what))
    });
    unusable.or_else(|| {
        let refusal = shortage::try_write(path).err();
        let refusal =
            refusal.or_else(|| (code == ErrorCode::DiskFull).then(|| ErrorKind::StorageFull.into()))?;
        Some((path.to_owned(), cause_of(path, &refusal)?))
    })
}

/// Why the system refused to create or write `path`, and a remedy. `None` for errors other than exhausted resources and missing
/// permissions.
pub fn cause_of(path: &Path, error: &io::Error) -> Option<String> {
    let directory = nearest(path);
    let shown = directory.display();
    if is_virtual(&directory) {
        return Some(format!(
            "{shown} is on a filesystem of the kernel, which stores no files ({error}): name a directory on a disk"
        ));
    }
    let free = statvfs(&directory).ok();
    let inodes = free.as_ref().filter(|about| about.files() > 0).map(|about| about.files_available());
    Some(match error.kind() {
        ErrorKind::StorageFull if inodes == Some(0) => {
            format!("no inodes are left on the filesystem of {shown}: remove files there")
        }
        ErrorKind::StorageFull => {
            let kib = free.map_or(0, |about| about.blocks_available() * about.fragment_size() / 1_024);
            format!("no space left on the filesystem of {shown} ({kib} KiB are free): make room there")
        }
        ErrorKind::QuotaExceeded => format!(
            "the disk quota of user {} is used up on the filesystem of {shown}: make room or raise the quota",
            Uid::effective()
        ),
        ErrorKind::FileTooLarge => {
            "the file size limit of the process is reached (ulimit -f): raise it".to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => {
            format!("the filesystem of {shown} is read-only: mount it read-write")
        }
        ErrorKind::PermissionDenied => {
            let at = if fs::metadata(path).is_ok() { path.to_owned() } else { directory };
            let owner = fs::metadata(&at).map_or_else(|_| "another user".to_owned(), owner);
            let user = Uid::effective();
            let is_owner = fs::metadata(&at).is_ok_and(|about| about.uid() == user.as_raw());
            if error.raw_os_error() == Some(EPERM) && is_owner {
                return Some(format!(
                    "{} cannot be changed by its owner: remove the attribute (lsattr, chattr -i)",
                    at.display()
                ));
            }
            format!(
                "user {user} may not write to {}, which belongs to {owner}: chown it to {user}",
                at.display()
            )
        }
        _ => return None,
    })
}

/// Whether the directory is on a filesystem by which the kernel shows its state: proc, sysfs, cgroup 1 and 2, debugfs, tracefs, securityfs
/// and devpts.
fn is_virtual(directory: &Path) -> bool {
    const MAGICS: [i64; 8] =
        [0x9FA0, 0x6265_6572, 0x0027_E0EB, 0x6367_7270, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0x1CD1];
    statfs(directory).is_ok_and(|about| MAGICS.iter().any(|magic| about.filesystem_type() == FsType(*magic)))
}

fn owner(about: fs::Metadata) -> String {
    format!("user {} (mode {:o})", about.uid(), about.mode() & 0o7777)
}

/// The nearest existing directory above `path`.
fn nearest(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parent = whole.ancestors().skip(1).find(|parent| parent.is_dir());
    parent.unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn each_error_of_the_system_has_a_cause_with_a_remedy() {
        let root = TempDir::new().unwrap();
        let path = root.path().join("words.sqlite3");
        let cases = [
            (Errno::ENOSPC, "no space left on"),
            (Errno::EDQUOT, "quota"),
            (Errno::EROFS, "read-only"),
            (Errno::EFBIG, "ulimit -f"),
            (Errno::EACCES, "chown"),
            (Errno::EPERM, "chattr -i"),
        ];
        for (errno, words) in cases {
            let cause = cause_of(&path, &errno.into()).unwrap_or_default();
            assert!(cause.contains(words), "{errno}: {cause}");
        }
        assert_eq!(cause_of(&path, &Errno::EIO.into()), None);
        for virtual_path in ["/proc/x", "/proc/self/x/y", "/sys/x", "/dev/pts/x"] {
            let cause = cause_of(Path::new(virtual_path), &Errno::ENOENT.into()).unwrap_or_default();
            assert!(cause.contains("a filesystem of the kernel"), "{virtual_path}: {cause}");
        }
        assert_eq!(cause_of(&path, &Errno::ENOENT.into()), None);
    }
}
