//! The tools `backup` and `check`. Both read a store even while a server uses it.
//!
//! The rooms are copied before the users, and users are never deleted, so every author and every member in the copy is a user in the copy.
//! Sessions are not copied, because a session that ends after the backup must not be valid again in a restored store.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use accounts::SqliteUsers;

use super::{CHAT, SESSIONS, USERS};
use crate::{
    config::{Backup, Check},
    error::Error,
    output, telemetry,
};

/// The name of the copy of the users until the backup is complete. No server starts on rooms without users.
const PARTIAL: &str = "users.sqlite3.partial";

/// Copies a store to a directory that is absent or empty.
///
/// # Errors
/// When the store cannot be read, or the copy cannot be written or is damaged. The files of the copy are removed.
pub fn run(config: Backup) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    let to = &*config.to;
    let failed = |error: String| Error::Tool(format!("no backup was made: {}: {error}", to.display()));
    if !is_made_or_empty(to).map_err(|error| failed(error.to_string()))? {
        return Err(failed("it is not empty; name a directory that is empty or absent".to_owned()));
    }
    copy(config.store.directory(), to).map_err(|error| {
        // The directory was empty before.
        let entries = fs::read_dir(to).into_iter().flatten().flatten();
        entries.for_each(|entry| drop(fs::remove_file(entry.path())));
        failed(error)
    })?;
    let to = to.display();
    print(&format!(
        "The backup is in {to}. `godzilla serve --data-dir {to}` runs on it; copy it before you do."
    ))
}

fn is_made_or_empty(to: &Path) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    Ok(fs::read_dir(to)?.next().is_none())
}

/// Copies both files, checks and opens the copies, and begins a new epoch of the log. The last step gives the copy of the users its name.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let text = |error: embedded::Error| error.to_string();
    for (name, copy) in [(CHAT, CHAT), (USERS, PARTIAL)] {
        embedded::copy(&from.join(name), &to.join(copy)).map_err(text)?;
        if let Some(fault) = embedded::check(&to.join(copy)).map_err(text)?.faults.first() {
            return Err(format!("the store is damaged: {name}: {fault}"));
        }
    }
    chat::SqliteStore::open(&to.join(CHAT))
        .and_then(|chat| chat.begin_epoch())
        .map_err(|error| error.to_string())?;
    drop(SqliteUsers::open(&to.join(PARTIAL)).map_err(text)?);
    fs::rename(to.join(PARTIAL), to.join(USERS))
        .and_then(|()| File::open(to)?.sync_all())
        .map_err(|error| error.to_string())
}

/// Reads the whole store and prints its faults and the numbers of rows.
///
/// # Errors
/// When a file cannot be read or has faults.
pub fn check(config: &Check) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    let directory = config.store.directory();
    let mut faults = 0;
    for name in [USERS, SESSIONS, CHAT] {
        // A backup has no sessions until a server has run on it.
        if name == SESSIONS && !directory.join(name).exists() {
            continue;
        }
        let checked =
            embedded::check(&directory.join(name)).map_err(|error| Error::Tool(error.to_string()))?;
        faults += checked.faults.len();
        for fault in checked.faults {
            print(&format!("{name}: {fault}"))?;
        }
        for (table, rows) in checked.counts {
            print(&format!("{name}: {table}: {rows}"))?;
        }
    }
    match faults {
        0 => print(&format!("{} is whole.", directory.display())),
        _ => Err(Error::Tool(format!("{faults} faults in {}; restore a backup", directory.display()))),
    }
}

fn print(line: &str) -> Result<(), Error> {
    let shown = output::show(&format!("{line}\n"));
    shown.map_err(|error| Error::part("standard output cannot be written", error))
}
