//! The change log of rooms. A room's document contains its latest changes (`recent`, at most [`KEPT`]). Before they are dropped there,
//! they are copied to the collection `changes`, which has one document for each part of a room with the number of its last change.
//!
//! The copy is not part of the change's write, so the numbers up to which it is complete are in the room's document: `logged`, and
//! `log_floor`, before which changes are missing because they were dropped before they were copied, or are of an earlier room of the same
//! name. A client whose number is before `log_floor` loads the room anew.

use std::{collections::HashMap, sync::PoisonError};

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc, oid::ObjectId};
use proto::{
    RoomName, Username,
    event::{Item, ItemType, RoomKind},
};
use remote::mongo::Operation;
use serde::Deserialize;

use super::{
    MongoDirectory,
    document::RoomDocument,
    stored_changes::{note_damage, possible_parts, without_gaps},
};
use crate::{
    Error,
    changes::{Change, KEPT},
    column::integer,
    directory::{
        ChangeKind, ChangesSince, RoomRecord,
        change::{Part, PresentState},
    },
    mongo::{DEADLINE, count_failure, damaged, deadline_now, number, with_deadline},
    room_change::MAX_CHANGED,
};

/// Name of the collection of older changes.
pub const COLLECTION: &str = crate::mongo::CHANGES;

/// The effect of refused copies.
pub const NOT_COPIED: &str = "clients that miss more than 64 changes of a room meanwhile load the room anew";

/// The effect of refused deletions of the changes of an ended room.
pub const NOT_DELETED: &str = "changes of ended rooms are kept";

/// The number of changes after which the latest ones are copied. Half of those that are kept, so a copy that fails is repeated in time.
const COPY_AFTER: i64 = KEPT as i64 / 2;

/// The document of a trial write.
pub fn trial() -> Document {
    let id = format!("trial {}", ObjectId::new());
    doc! { "_id": { "room": &id, "type": "room", "key": "" }, "room": id, "type": "room", "key": "", "rev": 1_i64 }
}

/// The changed part of a room: its type and, for a member, the key of the name.
type Key = (ItemType, String);

/// A document of the collection.
#[derive(Debug, Deserialize)]
struct Row {
    #[serde(rename = "type")]
    kind: String,
    key: String,
    rev: i64,
}

/// The last change of each part of a room.
#[derive(Debug, Default)]
struct Parts(HashMap<Key, (u64, Part)>);

impl MongoDirectory {
    /// Copies the latest changes of a room in the background, if enough were made since the last copy. `found` is the room before its last
    /// change.
    pub(super) fn log_older_changes(&self, room: &RoomName, found: &RoomDocument) {
        if found.version - found.logged < COPY_AFTER {
            return;
        }
        let (this, room) = (self.clone(), room.clone());
        let is_new = this.copying.lock().unwrap_or_else(PoisonError::into_inner).insert(room.clone());
        if !is_new {
            return;
        }
        tokio::spawn(async move {
            if let Err(error) = this.copy_changes(&room).await {
                count_failure(COLLECTION);
                tracing::warn!(%room, %error, "the latest changes of a room cannot be copied; its next change retries");
            }
            this.copying.lock().unwrap_or_else(PoisonError::into_inner).remove(&room);
        });
    }

    async fn copy_changes(&self, room: &RoomName) -> Result<(), Error> {
        let Some(found) = self.find_document(room, None, deadline_now()).await? else { return Ok(()) };
        let mut document = RoomDocument::read(found.clone())?;
        let changes = self.logged_changes(&mut document, found)?;
        let owner = document.totals.owner()?;
        let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return Ok(()) };
        let mut parts = Parts::default();
        let logged = number(document.logged)?;
        let deadline = deadline_now();
        // Of a room whose earlier changes are before the floor nothing is missing.
        let lost = match document.log_floor < document.logged
            && !self.has_copies(room, &document, deadline).await?
        {
            true => document.logged,
            false => 0,
        };
        if lost > 0 {
            tracing::warn!(%room, "older changes of a room are missing in the collection `changes`: clients that lack them load the room anew");
        }
        changes
            .iter()
            .filter(|change| change.version > logged)
            .for_each(|change| parts.add(change, owner.as_ref()));
        for ((kind, key), (rev, part)) in parts.0 {
            let name = part.name();
            let id = doc! { "room": room.as_str(), "type": kind.name(), "key": &key };
            let update = doc! {
                "$max": { "rev": integer(rev) },
                "$setOnInsert": { "room": room.as_str(), "type": kind.name(), "key": name },
            };
            let copy = self.changes.write(Operation::Update, async |changes| {
                changes.update_one(doc! { "_id": id }, update).upsert(true).await
            });
            with_deadline(deadline, copy).await?;
        }
        let gap = if first.version > logged + 1 { integer(first.version - 1) } else { 0 };
        let floor = document.log_floor.max(gap).max(lost);
        let mut numbers = doc! { "logged": integer(last.version), "log_floor": floor };
        let count = self.count_copies(room, None, deadline).await?;
        let mut update = match lost {
            0 => doc! {},
            _ => doc! { "$set": { "log_parts": count } },
        };
        if lost == 0 {
            numbers.insert("log_parts", count);
        }
        update.insert("$max", numbers);
        let note = self.rooms.write(Operation::Update, async |rooms| {
            rooms.update_one(doc! { "_id": room.as_str() }, update).await
        });
        with_deadline(deadline, note).await.map(drop)
    }

    /// The latest changes of a room in order and without gaps. `document` and `found` are its whole document.
    fn logged_changes(&self, document: &mut RoomDocument, found: Document) -> Result<Vec<Change>, Error> {
        let mut changes = without_gaps(self.changes_of(found)?, number(document.version)?);
        // The release before does not write the floor when a name is reused.
        let renewed = changes.iter().rev().find(|change| matches!(change.what, ChangeKind::Renewed(_)));
        document.log_floor =
            document.log_floor.max(renewed.map_or(0, |change| integer(change.version.saturating_sub(1))));
        // Changes of an earlier room of the same name are not for the members of this one.
        changes.retain(|change| integer(change.version) > document.log_floor);
        Ok(changes)
    }

    /// See [`crate::directory::Directory::changes_since`].
    pub(super) async fn read_changes_since(
        &self,
        room: &RoomName,
        rev: u64,
        types: &[ItemType],
    ) -> Result<Option<ChangesSince>, Error> {
        if RoomKind::of(room).is_built_in() {
            let changes = if rev > 0 { ChangesSince::reset(0) } else { ChangesSince::page(0, vec![]) };
            return Ok(Some(changes));
        }
        // Most clients that reconnect have missed nothing. The members are not read for them.
        if self.is_open_at(room, rev).await? {
            return Ok(Some(ChangesSince::page(rev, vec![])));
        }
        let found = self.load_with_changes(room, deadline_now()).await?;
        let Some((mut stored, found)) = found.filter(|(stored, _)| !stored.document.archived) else {
            return Ok(None);
        };
        let changes = self.logged_changes(&mut stored.document, found)?;
        let (record, document) = (stored.record()?, stored.document);
        let last = record.rev;
        let first = changes.first().map_or(last + 1, |change| change.version);
        if rev > last {
            return Ok(Some(ChangesSince::reset(last)));
        }
        let mut parts = Parts::default();
        if rev + 1 < first && !self.read_older(room, rev, first - 1, &document, &mut parts).await? {
            return Ok(Some(ChangesSince::reset(last)));
        }
        let owner = record.room_info.owner.as_ref();
        changes.iter().filter(|change| change.version > rev).for_each(|change| parts.add(change, owner));
        Ok(Some(parts.since(&record, types)))
    }

    /// Whether the room exists and its last change is `rev`.
    async fn is_open_at(&self, room: &RoomName, rev: u64) -> Result<bool, Error> {
        let at = doc! { "_id": room.as_str(), "version": integer(rev), "archived": false };
        let found = self.rooms.find_one(at).projection(doc! { "_id": 1 }).max_time(DEADLINE);
        Ok(with_deadline(deadline_now(), found).await?.is_some())
    }

    /// Adds the parts that have changed after `rev` and up to `end`, which are not in the room's document. Returns whether all of them are
    /// stored and readable.
    async fn read_older(
        &self,
        room: &RoomName,
        rev: u64,
        end: u64,
        document: &RoomDocument,
        parts: &mut Parts,
    ) -> Result<bool, Error> {
        let is_stored = number(document.logged)? >= end && rev >= number(document.log_floor)?;
        if !is_stored || !self.has_copies(room, document, deadline_now()).await? {
            return Ok(false);
        }
        // A copy may run at the same time, and raise numbers beyond those of the room that was read.
        let later = doc! { "room": room.as_str(), "rev": { "$gt": integer(rev), "$lte": integer(end) } };
        let limit = i64::try_from(MAX_CHANGED).unwrap_or(i64::MAX) + 1;
        let read = async {
            let found = self.changes.find(later).limit(limit).max_time(DEADLINE).await?;
            found.try_collect::<Vec<Document>>().await
        };
        for row in with_deadline(deadline_now(), read).await? {
            match Row::read(row) {
                Ok((rev, part)) => part.into_iter().for_each(|part| parts.insert(rev, part)),
                Err(error) => {
                    note_damage(room.as_str(), &error);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

impl Row {
    /// The number and the changed part of a document. Without a part for a type that a later release stores.
    fn read(document: Document) -> Result<(u64, Option<Part>), Error> {
        let row: Self = mongodb::bson::deserialize_from_document(document).map_err(damaged)?;
        Ok((number(row.rev)?, Part::stored(&row.kind, row.key).map_err(damaged)?))
    }
}

impl Parts {
    fn add(&mut self, change: &Change, owner: Option<&Username>) {
        let parts = match &change.items {
            Some(items) => items.iter().map(Part::of).collect(),
            None => possible_parts(&change.what, owner),
        };
        parts.into_iter().for_each(|part| self.insert(change.version, part));
    }

    fn insert(&mut self, rev: u64, part: Part) {
        let entry = self.0.entry((part.kind(), part.key())).or_insert_with(|| (rev, part.clone()));
        if entry.0 <= rev {
            *entry = (rev, part);
        }
    }

    fn since(self, room: &RoomRecord, types: &[ItemType]) -> ChangesSince {
        if self.0.len() > MAX_CHANGED {
            return ChangesSince::reset(room.rev);
        }
        let state = PresentState::of(room);
        let parts = self.0.into_values().filter(|(_, part)| types.contains(&part.kind()));
        let mut parts: Vec<(u64, Part)> = parts.collect();
        parts.sort_by_cached_key(|(rev, part)| (*rev, *part != Part::Room, part.name()));
        let items: Vec<(u64, Item)> = parts.into_iter().map(|(rev, part)| (rev, state.item(&part))).collect();
        ChangesSince::page(room.rev, items)
    }
}
