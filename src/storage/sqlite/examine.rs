//! The data directory: whether this user can create or use it on this filesystem, and whether other users can access
//! it.

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::{
    errno::Errno,
    sys::{
        statfs::{AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs},
        statvfs::statvfs,
    },
    unistd::{AccessFlags, access, geteuid},
};

use accounts::SqliteUsers;
use embedded::{Error, Examined};
use sessions::SqliteSessions;

use super::{CHAT, FILES, SESSIONS, USERS, data_dir, has_content};
use crate::doctor::Finding;

const FLAG: &str = "--data-dir (GODZILLA_DATA_DIR)";

/// Free bytes below which storage soon fails.
const MIN_FREE: u64 = 64 << 20;

/// Free bytes below which the doctor warns.
const LOW_FREE: u64 = 1 << 30;

/// Modification times in the future by less than this count as clock differences between machines.
const MAX_AHEAD: Duration = Duration::from_secs(3_600);

/// Filesystem types of the successors of SMB, which `nix` does not define.
const CIFS: [u32; 2] = [0xFF53_4D42, 0xFE53_4D42];

/// Examines the directory. Reads only and creates nothing.
pub fn examine(directory: &Path) -> Vec<Finding> {
    let shown = directory.display();
    match fs::metadata(directory) {
        Ok(about) if !about.is_dir() => {
            vec![Finding::error(FLAG, format!("{shown} is not a directory; name another one"))]
        }
        Ok(about) => examine_present(directory, about.permissions().mode()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => examine_absent(directory),
        Err(error) => {
            vec![Finding::error(
                FLAG,
                format!(
                    "{shown} cannot be read: {error}; run as the user that owns it, or name another directory"
                ),
            )]
        }
    }
}

/// The directory will be created in its nearest existing ancestor.
fn examine_absent(directory: &Path) -> Vec<Finding> {
    let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let parent = whole.ancestors().skip(1).find(|parent| parent.exists()).unwrap_or(Path::new("/"));
    let mut findings: Vec<_> = examine_access(parent).into_iter().collect();
    findings.extend(examine_filesystem(parent));
    findings
}

fn examine_present(directory: &Path, mode: u32) -> Vec<Finding> {
    let shown = directory.display();
    let mut findings: Vec<_> = examine_access(directory).into_iter().collect();
    if mode & 0o002 != 0 {
        findings.push(Finding::warning(
            FLAG,
            format!("every user of this machine can write to {shown}; chmod 700 it"),
        ));
    } else if mode & 0o077 != 0 {
        findings.push(Finding::warning(FLAG, format!("other users can open {shown}; chmod 700 it")));
    }
    findings.extend(examine_filesystem(directory));
    match data_dir::resolve(directory) {
        Ok(place) => findings.extend(examine_store(&place)),
        // A refused access is a finding already.
        Err(error) if findings.is_empty() => findings.push(Finding::error(FLAG, error.to_string())),
        Err(_) => {}
    }
    findings
}

/// Examines the files in the directory of the store, which may be a private subdirectory of the data directory.
fn examine_store(place: &Path) -> Vec<Finding> {
    let shown = place.display();
    let mut findings = Vec::new();
    let mut locks = ["lock", "sqlite3"].into_iter().flat_map(|extension| files(place, extension));
    if locks.any(|lock| is_locked(&lock)) {
        findings.push(Finding::error(
            FLAG,
            format!("{shown} is in use by a running server; stop it or name another directory"),
        ));
    }
    findings.extend(examine_files(place));
    findings.extend(examine_times(place));
    findings
}

/// What a start would refuse in the files, and what it would create beside them.
fn examine_files(place: &Path) -> Vec<Finding> {
    let schemas = [
        (USERS, SqliteUsers::SCHEMA),
        (SESSIONS, SqliteSessions::SCHEMA),
        (CHAT, chat::sqlite_store::SCHEMA),
    ];
    let outcomes = schemas.map(|(name, schema)| embedded::examine(&place.join(name), schema));
    let mut groups: Vec<&str> =
        outcomes.iter().flatten().filter_map(|Examined { group }| group.as_deref()).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut findings: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| Some(Finding::error(FLAG, text(outcome.as_ref().err()?))))
        .collect();
    if groups.len() > 1 {
        findings.push(Finding::error(
            FLAG,
            format!(
                "{} in {} are files of different stores; restore all files of one backup, or run `godzilla check --accept-loss`",
                FILES.join(", "),
                place.display()
            ),
        ));
    }
    let (present, missing): (Vec<&str>, Vec<&str>) =
        FILES.into_iter().partition(|name| has_content(place, name));
    if !present.is_empty() && !missing.is_empty() {
        let text = format!(
            "{} is missing or empty beside {} in {}; restore all files of one backup, or run `godzilla check --accept-loss` to go on \
             without",
            missing.join(", "),
            present.join(", "),
            place.display()
        );
        // A start creates files that are missing beside those of a release without ids.
        let is_refused = !groups.is_empty() || outcomes.iter().any(Result::is_err);
        findings.push(if is_refused { Finding::error(FLAG, text) } else { Finding::warning(FLAG, text) });
    }
    findings
}

/// The error of a start, with the remedy after a semicolon.
fn text(error: &Error) -> String {
    match error {
        Error::Newer { .. } => format!("{error}, or restore a backup of this version"),
        Error::Damaged { .. } => format!("{error}, or name another directory"),
        error => error.to_string(),
    }
}

fn examine_access(directory: &Path) -> Option<Finding> {
    let wanted = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    access(directory, wanted).err().map(|error| {
        let (shown, user) = (directory.display(), geteuid());
        if error == Errno::EROFS {
            return Finding::error(
                FLAG,
                format!(
                    "the filesystem of {shown} is read-only; mount it read-write (Kubernetes: readOnly of the volume mount, Docker: `:ro`) \
                     or name another directory"
                ),
            );
        }
        Finding::error(
            FLAG,
            format!("user {user} cannot write to {shown}: {}; chown it to that user (Kubernetes: fsGroup) or name another directory", error.desc()),
        )
    })
}

fn examine_filesystem(directory: &Path) -> Vec<Finding> {
    let shown = directory.display();
    let mut findings = Vec::new();
    if statfs(directory).is_ok_and(|about| is_network(about.filesystem_type())) {
        findings.push(Finding::error(
            FLAG,
            format!("{shown} is on a network filesystem, where SQLite's locks cannot be relied on; use a local disk"),
        ));
    }
    let free = statvfs(directory).map(|about| about.blocks_available() * about.fragment_size());
    match free {
        Ok(free) if free < MIN_FREE => findings.push(Finding::error(
            FLAG,
            format!("{} MiB are free at {shown}; make room or name a directory on another disk", free >> 20),
        )),
        Ok(free) if free < LOW_FREE => findings
            .push(Finding::warning(FLAG, format!("only {} MiB are free at {shown}; make room", free >> 20))),
        _ => {}
    }
    findings
}

/// Files with times in the future show that the clock is behind now, or was ahead.
fn examine_times(directory: &Path) -> Option<Finding> {
    let changed =
        files(directory, "sqlite3").into_iter().filter_map(|file| fs::metadata(file).ok()?.modified().ok());
    let ahead = changed.max()?.duration_since(SystemTime::now()).ok()?;
    (ahead > MAX_AHEAD).then(|| {
        Finding::error(
            "clock",
            format!(
                "files in {} are from the future by {} minutes; set the clock of this machine",
                directory.display(),
                ahead.as_secs() / 60
            ),
        )
    })
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|other| other == extension)).collect()
}

fn is_locked(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn is_network(kind: FsType) -> bool {
    let named = [NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, AFS_SUPER_MAGIC, CODA_SUPER_MAGIC];
    named.contains(&kind) || CIFS.iter().any(|magic| kind == FsType(i64::from(*magic)))
}
