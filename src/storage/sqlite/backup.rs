//! The tool `backup`: copies the embedded store, even while a server uses it. The copy appears complete and checked, or
//! not at all.
//!
//! The rooms are copied before the users, and users are never deleted. Every author and every member in the copy is
//! therefore a user in the copy. Sessions are not copied, because a session that ends after the backup must not be
//! valid again in a restored store; all users log in again. The log of the copy starts a new epoch.

mod partial;
mod target;

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use accounts::SqliteUsers;
use embedded::{Snapshot, new_group};
use proto::Timestamp;
use sessions::SqliteSessions;

use self::target::Target;
use super::{CHAT, SESSIONS, USERS, check, data_dir};
use crate::{config::Backup, error::Error, output, telemetry};

/// Makes the copy. On failure nothing remains.
pub fn run(config: Backup) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    let directory = data_dir::resolve(config.store.directory())?;
    let target = Target::examine(&config.to, config.store.directory())?;
    partial::remove_at_signals()?;
    let partial = target.make_partial()?;
    copy(&directory, partial.path(), &config.to)?;
    partial.publish(|partial| target.publish(partial))?;
    let to = config.to.display();
    print(&format!(
        "The backup is in {to}. `godzilla serve --data-dir {to}` runs on it; copy it before you do."
    ));
    Ok(())
}

/// Copies the store in `from` to `to`. Errors of the copy name `named`, the directory that the copy will have.
fn copy(from: &Path, to: &Path, named: &Path) -> Result<(), Error> {
    let open = |name: &str| Snapshot::open(&from.join(name)).map_err(failed(from));
    let chat = open(CHAT)?;
    let users = open(USERS)?;
    for (name, snapshot) in [(CHAT, &chat), (USERS, &users)] {
        if let Some(fault) = snapshot.log_fault().map_err(failed(from))? {
            return Err(failed(from)(format!("{name} is damaged: {fault}; see `godzilla check`")));
        }
    }
    let group = new_group().map_err(failed(named))?;
    for (name, snapshot) in [(CHAT, &chat), (USERS, &users)] {
        let mut shown = 0;
        let progress = |done: i32, all: i32| {
            let percent = i64::from(done) * 100 / i64::from(all.max(1));
            if percent >= shown + 10 {
                shown = percent;
                print(&format!("{name}: {percent} %"));
            }
        };
        let path = to.join(name);
        snapshot.copy_to(&path, &group, progress).map_err(|error| not_written(named, &path, &error))?;
    }
    drop((chat, users));
    finish(to, &group, named)?;
    print("checking the copy");
    let findings = check::findings(to)?;
    match findings.first() {
        None => Ok(()),
        Some(first) => Err(failed(from)(format!("the store is damaged: {first}; see `godzilla check`"))),
    }
}

/// Makes a store of the copied files: migrates them to the schema of this release, begins a new epoch and adds an empty file of sessions.
fn finish(to: &Path, group: &str, named: &Path) -> Result<(), Error> {
    let path = |name: &str| to.join(name);
    let sessions = SqliteSessions::open(&path(SESSIONS), Timestamp::now);
    let sessions = sessions.map_err(|error| not_written(named, &path(SESSIONS), &error))?;
    drop(sessions.database().set_group(group));
    sessions.database().close();
    let users = SqliteUsers::open(&path(USERS));
    users.map_err(|error| not_written(named, &path(USERS), &error))?.database().close();
    chat::SqliteStore::open_copy(&path(CHAT)).map_err(failed(named))?.database().close();
    Ok(())
}

/// The failure to write the file at `path` of the copy `named`: the cause that the system gives, with a remedy.
fn not_written(named: &Path, path: &Path, error: &embedded::Error) -> Error {
    let partial = path.parent().and_then(|partial| std::path::absolute(partial).ok()).unwrap_or_default();
    match embedded::cause_of_failure(path, error) {
        Some(cause) => {
            // The incomplete copy is removed.
            let cause = cause.replace(&*partial.to_string_lossy(), &named.to_string_lossy());
            failed(named)(format!("{cause}; or name another directory"))
        }
        None => failed(named)(error),
    }
}

/// Prints a line of progress. A standard output that is not read delays the backup once, by 5 s.
fn print(line: &str) {
    static IS_OUTPUT_BLOCKED: AtomicBool = AtomicBool::new(false);
    if !IS_OUTPUT_BLOCKED.load(Ordering::Relaxed) && output::show(&format!("{line}\n")).is_err() {
        IS_OUTPUT_BLOCKED.store(true, Ordering::Relaxed);
    }
}

/// An error of the system, with a remedy.
fn refused(path: &Path) -> impl FnOnce(io::Error) -> Error {
    refused_in(path, path)
}

/// As [`refused`], for a path of an incomplete copy, whose name means nothing to the caller. The error names `named`.
fn refused_in(named: &Path, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| match embedded::cause_of(path, &error) {
        Some(cause) => failed(named)(format!("{cause}; or name a directory of your own")),
        None => failed(named)(format!(
            "{error}; name a directory on a disk, in which this user may make directories"
        )),
    }
}

fn failed<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.display().to_string();
    move |error| Error::Tool(format!("no backup was made: {path}: {error}"))
}
