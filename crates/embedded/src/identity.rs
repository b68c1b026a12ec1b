//! Detection of a copy: whether the files of a store are those of its last start, or older ones that were copied into their place.
//! The content of a copy is that of the original, so a copy is detected by the inode and the birth time of the file. Called by
//! [`Database::open`](crate::Database::open).
//!
//! A copy over the existing files (`cp -a old/. data/`) keeps their inodes. So each start creates one more file, and the database
//! contains the identity of that file. An older database contains the identity of an earlier one, even after a copy over the files.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::UNIX_EPOCH,
};

use rusqlite::Connection;

use crate::{
    file::{self, beside},
    state,
};

/// The suffix of the file that each start creates anew.
const RUN: &str = ".run";

/// The suffix of that file before it is renamed.
const NEXT: &str = ".run.next";

/// The identity of an absent file.
const ABSENT: &str = "-";

/// Whether the files are not those of the last start. False for a store that no release with this check has opened, and on a
/// filesystem whose inode numbers may change.
pub fn is_copy(path: &Path, conn: &Connection) -> rusqlite::Result<bool> {
    Ok(differs(state::files(conn)?.as_deref(), identity(path).as_deref(), &run_identity(path)))
}

/// Compares the identities that the database records with those of the files. `file` is the identity of the database file, and `run`
/// that of the `.run` file.
fn differs(recorded: Option<&str>, file: Option<&str>, run: &str) -> bool {
    match (recorded.map(|recorded| recorded.split(' ').collect::<Vec<_>>()), file) {
        // No start with this check has opened the database, because it records no identities. So a `.run` file belongs to another database.
        (None, Some(_)) => run != ABSENT,
        (None, None) => false,
        (Some(_), None) => true,
        (Some(recorded), Some(file)) => recorded.first() != Some(&file) || !recorded[1..].contains(&run),
    }
}

/// Creates the `.run` file of this start and records the identities of the files in the database. After an error the recorded identities
/// still match the files.
pub fn renew(path: &Path, conn: &Connection) -> Result<(), Box<dyn std::error::Error>> {
    let Some(file) = identity(path) else { return Ok(state::set_files(conn, None)?) };
    let (next, run) = (beside(path, NEXT), beside(path, RUN));
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    // Both `.run` files are accepted, because the process may die before or after the renaming.
    let next_identity = identity(&next).unwrap_or_else(|| ABSENT.to_owned());
    let recorded = format!("{file} {} {next_identity}", run_identity(path));
    state::set_files(conn, Some(&recorded))?;
    Ok(fs::rename(next, run)?)
}

fn run_identity(path: &Path) -> String {
    identity(&beside(path, RUN)).unwrap_or_else(|| ABSENT.to_owned())
}

/// The inode and, where the filesystem has it, the birth time. The device is not included, because its number changes at each mount.
/// `None` for an absent file, and for a file without a birth time on a filesystem whose inode numbers may change.
fn identity(path: &Path) -> Option<String> {
    let about = fs::metadata(path).ok()?;
    let born = about.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    match born {
        Some(born) => Some(format!("{}.{}", about.ino(), born.as_nanos())),
        None => (!file::has_unstable_inodes(path)).then(|| about.ino().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_differ_from_the_files_of_the_last_start() {
        let cases = [
            (None, Some("1"), ABSENT, false, "a new store, or one of an earlier release"),
            (None, Some("1"), "2", true, "a copy from before an upgrade over the existing files"),
            (Some("1 - 2"), Some("1"), "2", false, "the next start"),
            (Some("1 2 3"), Some("1"), "2", false, "a start that died before the renaming"),
            (Some("1 2 3"), Some("1"), "3", false, "a start that died after the renaming"),
            (Some("1 2 3"), Some("9"), "3", true, "another database"),
            (Some("1 2 3"), Some("1"), "4", true, "a copy over the existing files"),
            (Some("1 2 3"), Some("1"), ABSENT, true, "the database file alone"),
            (Some("1 2 3"), None, ABSENT, true, "moved to a filesystem with unstable inodes"),
            (None, None, ABSENT, false, "a filesystem with unstable inodes"),
        ];
        for (recorded, file, run, expected, what) in cases {
            assert_eq!(differs(recorded, file, run), expected, "{what}");
        }
    }
}
