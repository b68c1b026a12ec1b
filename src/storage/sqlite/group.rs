//! The three files of a store share an id, so that a missing file and a file of another store are detected.

use std::path::Path;

use embedded::{Database, Snapshot, new_group};

use super::{FILES, Stores, has_content, unusable};
use crate::error::Error;

/// Refuses a directory in which files of a store are missing or empty, because the remaining files refer to them.
pub fn refuse_incomplete(flag: &Path, directory: &Path) -> Result<(), Error> {
    let (present, missing): (Vec<&str>, Vec<&str>) =
        FILES.into_iter().partition(|name| has_content(directory, name));
    if present.is_empty() || missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    for name in present {
        let path = directory.join(name);
        let snapshot = Snapshot::open(&path).map_err(unusable(flag))?;
        if snapshot.group().map_err(unusable(flag))?.is_some() {
            return Err(unusable(flag)(format!(
                "{missing} is missing or empty beside {}, which belongs to it. Restore all files of one backup; or run \
                 `godzilla check --accept-loss` to go on without",
                path.display()
            )));
        }
    }
    tracing::warn!(directory = %directory.display(), missing, "creating the missing files beside those of an earlier start");
    Ok(())
}

/// Gives all files one id. Files of several stores are refused, or combined when a loss is accepted.
pub fn join(stores: &Stores, accept_loss: bool) -> Result<(), String> {
    let files = [stores.users.database(), stores.sessions.database(), stores.chat.database()];
    let mut ids: Vec<&str> = files.iter().filter_map(|file| file.group()).collect();
    ids.sort_unstable();
    ids.dedup();
    let id = match ids[..] {
        [id] => id.to_owned(),
        [] => new_group().map_err(|error| error.to_string())?,
        _ if accept_loss => new_group().map_err(|error| error.to_string())?,
        _ => {
            return Err(format!(
                "{} are files of different stores. Restore all files of one backup; or run `godzilla check --accept-loss` \
                 to make them one",
                FILES.join(", ")
            ));
        }
    };
    for file in files.into_iter().filter(|file: &&Database| file.group() != Some(&id)) {
        // Queued before any other write.
        drop(file.set_group(&id));
    }
    Ok(())
}
