//! The file of a store: its directory, its mode, the lock against a second process, and connections with the settings that durability
//! needs. Called by [`Database::open`](crate::Database::open).

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::statfs::{AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};
use rusqlite::{Connection, OpenFlags, ffi};

use crate::{Error, row_sum};

/// The first version of SQLite without the bug that can corrupt a WAL file when it is reset.
const OLDEST_SQLITE: i32 = 3_051_003;

/// The maximum time that a connection waits for a lock that another program, such as a backup or a shell, holds on the file.
pub const LOCK_WAIT: Duration = Duration::from_secs(2);

/// The number of prepared statements that are cached per connection.
const STATEMENTS: usize = 64;

/// The magic numbers of CIFS and SMB2, which have no constants in `nix`.
const CIFS: [u32; 2] = [0xFF53_4D42, 0xFE53_4D42];

/// The magic numbers of FUSE, 9p and Ceph. Some of these filesystems provide the locks and shared memory that SQLite needs, and some do
/// not.
const UNRELIABLE: [i64; 3] = [0x6573_5546, 0x0102_1997, 0x00C3_6400];

/// The locks of a store, which are held until the files are dropped. They are locks of `flock`, which do not interact with those of SQLite.
pub struct Claim {
    /// The lock file.
    pub lock: File,
    /// The database. Its lock excludes a process that opens it by another name (a hard link), beside another lock file. Must be dropped
    /// after the connections, because `close` drops all locks of SQLite in the process on the file.
    pub database: File,
}

/// Creates the directory (mode 0700) and the file (0600) where they are missing, and takes the locks.
pub fn claim(path: &Path) -> Result<Claim, Error> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(Error::OldLibrary(rusqlite::version()));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let at = |place: &Path| {
        let path = place.to_owned();
        move |source| Error::File { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))?;
    refuse_exposed(directory)?;
    refuse_network(directory)?;
    refuse_irregular(path)?;
    ["-wal", "-shm", ".lock"].iter().try_for_each(|suffix| refuse_pipe(&beside(path, suffix)))?;
    let locked = |place: &Path| {
        let file = private(place).map_err(at(place))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Error::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(at(place)(source)),
        }
    };
    let lock = locked(&beside(path, ".lock"))?;
    // Only with the lock: this process may have the database open, and an error would close the file.
    let database = locked(path)?;
    Ok(Claim { lock, database })
}

/// Opens the only connection that writes.
pub fn writing(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | base())?;
    settle(&conn)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let error = ffi::Error::new(ffi::SQLITE_CANTOPEN);
        return Err(rusqlite::Error::SqliteFailure(error, Some(format!("journal mode is {mode}, not wal"))));
    }
    // The writer runs checkpoints itself, because it must detect a failed one.
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;",
    )?;
    Ok(conn)
}

/// Opens a connection that only reads.
pub fn reading(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | base())?;
    settle(&conn)?;
    conn.execute_batch("PRAGMA query_only = ON;")?;
    Ok(conn)
}

/// Opens a connection that reads only the database file, without its log, and creates no files beside it. No process may write to the
/// file in the meantime.
pub fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(format!("file:{}?immutable=1", escaped(path)), flags)?;
    row_sum::register(&conn)?;
    Ok(conn)
}

/// A path as a part of a URI.
pub fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

fn base() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE | OpenFlags::SQLITE_OPEN_URI
}

fn settle(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(LOCK_WAIT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    row_sum::register(conn)?;
    conn.execute_batch("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")
}

/// Opens or creates a file that only its owner may access.
fn private(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// The path with `suffix`, such as `-wal`, appended to the file name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Rejects a directory that every user may write to. For other directories that are not private it logs a warning, because the owner of
/// an existing directory sets its mode, and the files in it are private.
fn refuse_exposed(directory: &Path) -> Result<(), Error> {
    let Ok(about) = fs::metadata(directory) else { return Ok(()) };
    let mode = about.permissions().mode();
    if mode & 0o002 != 0 {
        return Err(Error::Exposed(directory.to_owned()));
    }
    if mode & 0o077 != 0 {
        tracing::warn!(directory = %directory.display(), "the data directory is open to other users");
    }
    Ok(())
}

fn refuse_network(directory: &Path) -> Result<(), Error> {
    match statfs(directory) {
        Ok(about) if is_network(about.filesystem_type()) => Err(Error::Network(directory.to_owned())),
        Ok(about) if is_unreliable(about.filesystem_type()) => {
            let directory = directory.display();
            tracing::warn!(
                %directory,
                "the data directory is on a filesystem (FUSE, 9p, Ceph) whose locks and shared memory may not work: use a local filesystem (ext4, xfs)"
            );
            Ok(())
        }
        // A filesystem of unknown type is accepted.
        _ => Ok(()),
    }
}

/// Refuses a path at which something else than a file is. SQLite writes the log of a symbolic link beside the target of the link, where
/// backups of the directory and the checks of the next start do not find it.
pub fn refuse_irregular(path: &Path) -> Result<(), Error> {
    let Ok(about) = fs::symlink_metadata(path) else { return Ok(()) };
    let what = match about.file_type() {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_symlink() => {
            "it is a symbolic link, and the log belongs beside the file: link or mount the directory, and move the file into it"
        }
        kind if kind.is_dir() => "it is a directory: name another data directory, or remove it",
        _ => "it is not a regular file: name another data directory, or remove it",
    };
    Err(Error::Refused { path: path.to_owned(), what: what.to_owned() })
}

/// Refuses a path beside the database at which something else than a file or a link to a file is. Opening a pipe blocks.
fn refuse_pipe(path: &Path) -> Result<(), Error> {
    let is_file = fs::metadata(path).map_or(true, |about| about.is_file());
    let what = "it is not a regular file: move it away";
    if is_file { Ok(()) } else { Err(Error::Refused { path: path.to_owned(), what: what.to_owned() }) }
}

/// Whether a file is on a filesystem whose inode numbers may change.
pub fn has_unstable_inodes(path: &Path) -> bool {
    statfs(path).is_ok_and(|about| is_unreliable(about.filesystem_type()))
}

fn is_network(kind: FsType) -> bool {
    let named = [NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, AFS_SUPER_MAGIC, CODA_SUPER_MAGIC];
    named.contains(&kind) || CIFS.iter().any(|magic| kind == FsType(i64::from(*magic)))
}

/// Whether the filesystem may or may not be on another machine.
fn is_unreliable(kind: FsType) -> bool {
    UNRELIABLE.iter().any(|magic| kind == FsType(*magic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_filesystems_are_detected_and_local_ones_are_accepted() {
        assert!(is_network(NFS_SUPER_MAGIC));
        assert!(is_network(FsType(0xFF53_4D42)));
        assert!(is_unreliable(FsType(0x0102_1997)), "9p");
        assert!(!is_network(FsType(0xEF53)) && !is_unreliable(FsType(0xEF53)), "ext4");
        assert!(!is_network(FsType(0x0102_1994)), "tmpfs");
    }

    #[test]
    fn the_bundled_sqlite_is_new_enough() {
        assert!(rusqlite::version_number() >= OLDEST_SQLITE);
    }
}
