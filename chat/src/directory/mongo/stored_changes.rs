//! The changes in the documents of rooms, as they are read. Pure. Called by [`super::changes`] and [`super::change_log`].

use mongodb::bson::{Bson, DateTime, Document};
use proto::{RoomName, Username, event::Item};
use serde::Deserialize;

use super::items;
use crate::{
    Error,
    changes::{Change, Changed},
    directory::{ChangeKind, change::Part},
    mongo::{damaged, number, timestamp},
};

/// The version and latest changes of a room, as they are read.
#[derive(Debug, Deserialize)]
pub struct Row {
    #[serde(rename = "_id")]
    room: String,
    version: i64,
    archived: bool,
    /// The stored changes. Absent in rooms that only earlier releases have changed.
    #[serde(default)]
    recent: Vec<Bson>,
}

/// A stored change.
#[derive(Debug, Deserialize)]
struct StoredChange {
    version: i64,
    at: DateTime,
    /// Id of the process that made the change.
    by: String,
    what: String,
    #[serde(default)]
    user: Option<String>,
    /// The user that made the change. Absent in changes of earlier releases, and in empty changes.
    #[serde(default)]
    actor: Option<String>,
    /// The changed parts in their state after the change. Absent in changes of earlier releases, and in empty changes.
    #[serde(default)]
    items: Option<Vec<Document>>,
}

impl Row {
    /// Reads a row from a document with the fields `_id`, `version`, `archived` and `recent`.
    ///
    /// # Errors
    /// When a field other than an element of `recent` is damaged.
    pub fn read(document: Document) -> Result<Self, Error> {
        mongodb::bson::deserialize_from_document(document).map_err(damaged)
    }

    /// The room and its latest changes, oldest first, without the damaged ones. Readers detect their absence by the versions. `process` is
    /// the id of this process.
    ///
    /// # Errors
    /// When the name or the version of the room is damaged.
    pub fn changed(self, process: &str) -> Result<Changed, Error> {
        let mut changes: Vec<Change> = Vec::with_capacity(self.recent.len());
        for stored in self.recent {
            let stored = mongodb::bson::deserialize_from_bson::<StoredChange>(stored).map_err(damaged);
            match stored.and_then(|stored| stored.read(process)) {
                Ok(change) => changes.push(change),
                Err(error) => note_damage(&self.room, &error),
            }
        }
        changes.sort_by_key(|change| change.version);
        let (room, version) = (room_name(self.room)?, number(self.version)?);
        Ok(Changed { room, version, is_open: !self.archived, changes })
    }
}

impl StoredChange {
    fn read(self, process: &str) -> Result<Change, Error> {
        let user = self.user.map(Username::try_from).transpose().map_err(damaged)?;
        let what = match (&*self.what, user) {
            ("joined", Some(user)) => ChangeKind::Joined(user),
            ("left", Some(user)) => ChangeKind::Left(user),
            ("renewed", Some(user)) => ChangeKind::Renewed(user),
            ("joined" | "left" | "renewed", None) => return Err(damaged("a change of a member has no name")),
            ("archived", _) => ChangeKind::Archived,
            // Includes kinds that a later release stores.
            _ => ChangeKind::Other,
        };
        let is_own = self.by == process;
        let by = self.actor.map(Username::try_from).transpose().map_err(damaged)?;
        let parts = self.items.map(|items| {
            items.iter().filter_map(|stored| items::item(stored).transpose()).collect::<Result<Vec<_>, _>>()
        });
        let (version, at, items) = (number(self.version)?, timestamp(self.at)?, parts.transpose()?);
        if let (Some(items), Some(expected)) = (&items, part_of(&what))
            && !has_part(items, &expected)
        {
            return Err(damaged("the items of a change lack the part that it has changed"));
        }
        Ok(Change { version, at, what, by, items, is_own })
    }
}

/// The parts of a room with this owner that a change without items may have changed.
pub fn possible_parts(what: &ChangeKind, owner: Option<&Username>) -> Vec<Part> {
    let Some(user) = user_of(what) else { return vec![Part::Room] };
    let owner = owner.filter(|owner| owner.key() != user.key());
    let users = [Some(user), owner].into_iter().flatten().cloned();
    [Part::Room].into_iter().chain(users.map(Part::Member)).collect()
}

/// The user whose membership a change of this kind begins or ends.
pub fn user_of(what: &ChangeKind) -> Option<&Username> {
    match what {
        ChangeKind::Joined(user) | ChangeKind::Left(user) | ChangeKind::Renewed(user) => Some(user),
        ChangeKind::Archived | ChangeKind::Other => None,
    }
}

/// A part that every change of this kind changes. `None` for kinds that a later release stores.
fn part_of(what: &ChangeKind) -> Option<Part> {
    match what {
        ChangeKind::Archived => Some(Part::Room),
        ChangeKind::Other => None,
        what => user_of(what).cloned().map(Part::Member),
    }
}

fn has_part(items: &[Item], part: &Part) -> bool {
    items.iter().map(Part::of).any(|found| found.kind() == part.kind() && found.key() == part.key())
}

/// Reports a damaged document of a room, or a damaged change of it.
pub fn note_damage(room: &str, error: &Error) {
    metrics::counter!("godzilla_chat_damaged_changes_total").increment(1);
    tracing::warn!(room, %error, "a change of a room is damaged: clients that have not received it load the room anew");
}

/// The latest changes of a room at `version` that directly follow each other. Earlier ones are not used: a change between them is damaged,
/// or an earlier release has not stored it.
pub fn without_gaps(mut changes: Vec<Change>, version: u64) -> Vec<Change> {
    let is_next = |(back, change): &(u64, &Change)| change.version.checked_add(*back) == Some(version);
    let count = (0..).zip(changes.iter().rev()).take_while(is_next).count();
    changes.split_off(changes.len() - count)
}

/// The name of a room in its document.
pub fn room_name(name: String) -> Result<RoomName, Error> {
    RoomName::try_from(name).map_err(damaged)
}
