//! Whether the files of a store are those of its last start, or a copy of older ones that was put in their place. A copy contains
//! everything that the original contained, so what distinguishes them is what a copy cannot have: the inode and the birth time of
//! the file. Called by [`Database::open`](crate::Database::open).
//!
//! A copy that is written over the present files (`cp -a old/. data/`) keeps their inodes. So each start makes one more file, whose
//! identity the database contains: written over or not, it is not the one that an older database names.

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

/// The file that each start makes anew.
const RUN: &str = ".run";

/// The same before it has its name.
const NEXT: &str = ".run.next";

/// Stands for a file that is absent.
const ABSENT: &str = "-";

/// Whether the files are not those of the last start. False for a store that no release with this check has opened, and on a
/// filesystem whose inodes have no lasting identity.
pub fn is_copy(path: &Path, conn: &Connection) -> rusqlite::Result<bool> {
    Ok(differs(state::files(conn)?.as_deref(), of(path).as_deref(), &of_run(path)))
}

/// `noted` is the row of the database; `file` and `run` are the files as they are.
fn differs(noted: Option<&str>, file: Option<&str>, run: &str) -> bool {
    match (noted.map(|noted| noted.split(' ').collect::<Vec<_>>()), file) {
        // A database from before the first start that made the other file.
        (None, Some(_)) => run != ABSENT,
        (None, None) => false,
        (Some(_), None) => true,
        (Some(noted), Some(file)) => noted.first() != Some(&file) || !noted[1..].contains(&run),
    }
}

/// Makes the files those of this start. What fails leaves them those of the last one.
pub fn renew(path: &Path, conn: &Connection) -> Result<(), Box<dyn std::error::Error>> {
    let Some(file) = of(path) else { return Ok(state::set_files(conn, None)?) };
    let (next, run) = (beside(path, NEXT), beside(path, RUN));
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    // Both are accepted: the process may die before or after the renaming.
    let noted = format!("{file} {} {}", of_run(path), of(&next).unwrap_or_else(|| ABSENT.to_owned()));
    state::set_files(conn, Some(&noted))?;
    Ok(fs::rename(next, run)?)
}

fn of_run(path: &Path) -> String {
    of(&beside(path, RUN)).unwrap_or_else(|| ABSENT.to_owned())
}

/// The inode and, where the filesystem has it, the birth time. Not the device, whose number changes at each mount. None for a file
/// that is absent, and where neither lasts.
fn of(path: &Path) -> Option<String> {
    let about = fs::metadata(path).ok()?;
    let born = about.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    match born {
        Some(born) => Some(format!("{}.{}", about.ino(), born.as_nanos())),
        None => (!file::is_on_doubtful(path)).then(|| about.ino().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_differ_from_those_of_the_last_start_or_not() {
        let cases = [
            (None, Some("1"), ABSENT, false, "a new store, or one of an earlier release"),
            (None, Some("1"), "2", true, "a copy from before an upgrade over the present files"),
            (Some("1 - 2"), Some("1"), "2", false, "the next start"),
            (Some("1 2 3"), Some("1"), "2", false, "a start that died before the renaming"),
            (Some("1 2 3"), Some("1"), "3", false, "and after it"),
            (Some("1 2 3"), Some("9"), "3", true, "another database"),
            (Some("1 2 3"), Some("1"), "4", true, "a copy over the present files"),
            (Some("1 2 3"), Some("1"), ABSENT, true, "the database alone"),
            (Some("1 2 3"), None, ABSENT, true, "moved to a filesystem without lasting inodes"),
            (None, None, ABSENT, false, "a filesystem without lasting inodes"),
        ];
        for (noted, file, run, expected, what) in cases {
            assert_eq!(differs(noted, file, run), expected, "{what}");
        }
    }
}
