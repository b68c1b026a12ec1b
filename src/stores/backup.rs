//! The tool `backup`: a copy of the embedded store, also while a server uses it. The copy appears whole and checked, or not at
//! all.
//!
//! The state of the rooms is taken before that of the users, and users are never deleted: every author and every member in
//! the copy is a user in the copy. Sessions are not copied, because one that ends after the backup must not be open again in a
//! restored store; everybody logs in again. The log of the copy begins a new epoch.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use accounts::SqliteUsers;
use embedded::{Snapshot, new_group};
use proto::Timestamp;
use sessions::SqliteSessions;

use super::{CHAT, SESSIONS, USERS, check, place};
use crate::{config::Backup, error::Error, output, telemetry};

/// Makes the copy, or leaves nothing.
pub fn run(config: Backup) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    let directory = place::of(&config.store.data_dir)?;
    refuse_content(&config.to)?;
    let partial = make_partial(&config.to)?;
    let copied = copy(&directory, &partial).and_then(|()| publish(&partial, &config.to));
    if copied.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    copied?;
    let to = config.to.display();
    print(&format!(
        "The backup is in {to}. `godzilla serve --data-dir {to}` runs on it; copy it before you do."
    ));
    Ok(())
}

fn refuse_content(to: &Path) -> Result<(), Error> {
    match fs::read_dir(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(to)(error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(failed(to)("it is not empty; name a directory that is empty or absent")),
        },
    }
}

/// Makes a directory beside the target, on the same filesystem, that no other process has made. Only this one is ever removed.
fn make_partial(to: &Path) -> Result<PathBuf, Error> {
    let Some(target) = to.file_name() else {
        return Err(failed(to)("name a directory that is to be made, not . or /"));
    };
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed(parent))?;
    let group = new_group().map_err(failed(to))?;
    let mut name = std::ffi::OsString::from(".");
    name.push(target);
    name.push(format!(".partial-{group}"));
    let partial = parent.join(name);
    DirBuilder::new().mode(0o700).create(&partial).map_err(failed(&partial))?;
    Ok(partial)
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let open = |name: &str| Snapshot::open(&from.join(name)).map_err(failed(from));
    let chat = open(CHAT)?;
    let users = open(USERS)?;
    for (name, snapshot) in [(CHAT, &chat), (USERS, &users)] {
        if let Some(fault) = snapshot.log_fault().map_err(failed(from))? {
            return Err(failed(from)(format!("{name} is damaged: {fault}; see `godzilla check`")));
        }
    }
    let group = new_group().map_err(failed(to))?;
    for (name, snapshot, renewal) in [(CHAT, &chat, chat::store::RENEWAL), (USERS, &users, &[])] {
        let mut shown = 0;
        let progress = |done: i32, all: i32| {
            let percent = i64::from(done) * 100 / i64::from(all.max(1));
            if percent >= shown + 10 {
                shown = percent;
                print(&format!("{name}: {percent} %"));
            }
        };
        snapshot.copy_to(&to.join(name), renewal, &group, progress).map_err(failed(to))?;
    }
    drop((chat, users));
    finish(to, &group)?;
    print("checking the copy");
    let findings = check::findings(to)?;
    match findings.first() {
        None => Ok(()),
        Some(first) => Err(failed(from)(format!("the store is damaged: {first}; see `godzilla check`"))),
    }
}

/// Makes a whole store of the copies: the schema of this release, and no sessions.
fn finish(to: &Path, group: &str) -> Result<(), Error> {
    let sessions = SqliteSessions::open(&to.join(SESSIONS), Timestamp::now).map_err(failed(to))?;
    drop(sessions.database().set_group(group));
    sessions.database().close();
    SqliteUsers::open(&to.join(USERS)).map_err(failed(to))?.database().close();
    chat::Store::open(&to.join(CHAT)).map_err(failed(to))?.database().close();
    Ok(())
}

/// Brings everything to the disk and gives the copy its name.
fn publish(partial: &Path, to: &Path) -> Result<(), Error> {
    for name in [SESSIONS, CHAT, USERS].map(|name| format!("{name}.lock")) {
        let _ = fs::remove_file(partial.join(name));
    }
    for entry in fs::read_dir(partial).map_err(failed(partial))? {
        let path = entry.map_err(failed(partial))?.path();
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed(&path))?;
    }
    let sync = |directory: &Path| File::open(directory).and_then(|directory| directory.sync_all());
    sync(partial).map_err(failed(partial))?;
    fs::rename(partial, to).map_err(failed(to))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync(parent).map_err(failed(parent))
}

/// Prints a line of progress. A standard output that is not read delays the backup once, by 5 s.
fn print(line: &str) {
    static IS_DEAF: AtomicBool = AtomicBool::new(false);
    if !IS_DEAF.load(Ordering::Relaxed) && output::show(format!("{line}\n")).is_err() {
        IS_DEAF.store(true, Ordering::Relaxed);
    }
}

fn failed<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.display().to_string();
    move |error| Error::Tool(format!("no backup was made: {path}: {error}"))
}
