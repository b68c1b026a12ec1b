//! The tool `check`: reads a whole store and prints its faults. Changes nothing, except with `--accept-loss`.

use std::path::Path;

use accounts::SqliteUsers;
use embedded::Snapshot;
use sessions::SqliteSessions;

use super::{CHAT, FILES, SESSIONS, Stores, USERS, data_dir};
use crate::{config::Check, error::Error, output, telemetry};

/// Prints the findings. Returns an error if there are any.
pub fn run(config: Check) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    let directory = data_dir::resolve(config.store.directory())?;
    if config.accept_loss {
        refuse_absent(&directory)?;
        let stores = Stores::open_with(config.store.directory(), true)?;
        stores.close();
        print("What was lost is given up: the log begins a new epoch and all sessions are closed.")?;
    }
    let findings = findings(&directory)?;
    for finding in &findings {
        print(finding)?;
    }
    match findings.len() {
        0 => print(&format!("{} is whole.", directory.display())),
        count => Err(Error::Tool(format!(
            "{count} findings in {}. Restore a backup, or run `godzilla check --accept-loss` while no server runs: it goes on \
             with what is left",
            directory.display()
        ))),
    }
}

/// The faults of the files in a directory, one sentence each.
pub fn findings(directory: &Path) -> Result<Vec<String>, Error> {
    let mut findings = Vec::new();
    let mut groups = Vec::new();
    let mut open = |name: &str| match Snapshot::open(&directory.join(name)) {
        Ok(snapshot) => Some(snapshot),
        Err(error) => {
            findings.push(format!("{name}: {error}"));
            None
        }
    };
    let [users, sessions, chat] = FILES.map(&mut open);
    if [&users, &sessions, &chat].iter().all(|file| file.is_none()) {
        refuse_absent(directory)?;
    }
    for (name, snapshot, checks) in [
        (USERS, &users, SqliteUsers::CHECKS),
        (SESSIONS, &sessions, SqliteSessions::CHECKS),
        (CHAT, &chat, chat::sqlite_store::CHECKS),
    ] {
        let Some(snapshot) = snapshot else { continue };
        note(name, snapshot.log_fault().map(Vec::from_iter), &mut findings);
        note(name, snapshot.findings(checks), &mut findings);
        groups.extend(snapshot.group().unwrap_or_default());
    }
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > 1 {
        findings.push(format!("{} are files of different stores", FILES.join(", ")));
    }
    if let (Some(chat), Some(users)) = (&chat, &users) {
        let checks = chat::sqlite_store::CHECKS_WITH_USERS;
        note(CHAT, chat.attach_people(users).and_then(|()| chat.findings_of(checks)), &mut findings);
    }
    Ok(findings)
}

/// Refuses a directory without a store, such as one with a mistyped name.
fn refuse_absent(directory: &Path) -> Result<(), Error> {
    match data_dir::contains_store(directory)? {
        true => Ok(()),
        false => Err(Error::Tool(format!(
            "there is no store in {}; --data-dir names another directory",
            directory.display()
        ))),
    }
}

fn note(name: &str, found: Result<Vec<String>, embedded::Error>, findings: &mut Vec<String>) {
    match found {
        Ok(found) => findings.extend(found.iter().map(|finding| format!("{name}: {finding}"))),
        Err(error) => findings.push(format!("{name} cannot be read: {error}")),
    }
}

fn print(line: &str) -> Result<(), Error> {
    let shown = output::show(&format!("{line}\n"));
    shown.map_err(|error| Error::part("standard output cannot be written", error))
}
