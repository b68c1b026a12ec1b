//! What has changed in a room after a change that a client has: from the latest changes in the room's document, or from all rows of its
//! change log.

use std::collections::HashMap;

use mongodb::bson::{Document, deserialize_from_document, doc};
use proto::{
    RoomName,
    event::{Item, ItemType, RoomKind},
};

use super::{
    MongoDirectory,
    change_log::{read_row, totals},
    document::{Log, StoredRoom},
    snapshot::stored_room,
    stored_changes::{note_damage, possible_parts, without_gaps},
};
use crate::{
    Error,
    changes::Change,
    column::integer,
    directory::{
        ChangeKind, ChangesSince, RoomRecord,
        change::{Part, PresentState},
    },
    mongo::{DEADLINE, damaged, deadline_now, with_deadline},
    room_change::MAX_CHANGED,
};

/// The last change of each part of a room, by the type of the part and, for a member, the key of the name.
#[derive(Debug, Default)]
struct Parts(HashMap<(ItemType, String), (u64, Part)>);

impl MongoDirectory {
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
        let stages = self.room_stages(room, doc! { "departures": 0 });
        let Some(found) = self.snapshot(room, stages, deadline_now()).await? else { return Ok(None) };
        let recent = found.first().cloned();
        let Some(stored) = open_room(found)? else { return Ok(None) };
        let record = stored.record()?;
        if rev > record.rev {
            return Ok(Some(ChangesSince::reset(record.rev)));
        }
        let changes = self.latest_changes(recent.unwrap_or_default(), &record)?;
        let first = changes.first().map_or(record.rev + 1, |change| change.version);
        if rev + 1 < first {
            return self.read_rows_since(room, rev, types).await;
        }
        let mut parts = Parts::default();
        changes.iter().filter(|change| change.version > rev).for_each(|change| parts.add(change, &record));
        Ok(Some(parts.since(&record, types)))
    }

    /// The latest changes of a room without gaps. Changes of an earlier room of the same name are not for the members of this one.
    fn latest_changes(&self, document: Document, record: &RoomRecord) -> Result<Vec<Change>, Error> {
        let mut changes = without_gaps(self.changes_of(document)?, record.rev);
        let is_renewal = |change: &Change| matches!(change.what, ChangeKind::Renewed(_));
        if let Some(renewal) = changes.iter().rposition(is_renewal) {
            changes.drain(..renewal);
        }
        Ok(changes)
    }

    /// The same from the rows of the room, which are read in one snapshot with it.
    async fn read_rows_since(
        &self,
        room: &RoomName,
        rev: u64,
        types: &[ItemType],
    ) -> Result<Option<ChangesSince>, Error> {
        let mut stages = self.room_stages(room, doc! { "recent": 0, "departures": 0 });
        let later = vec![
            doc! { "$match": { "room": room.as_str(), "rev": { "$gt": integer(rev) } } },
            doc! { "$limit": i64::try_from(MAX_CHANGED).unwrap_or(i64::MAX) + 1 },
        ];
        for pipeline in [totals(room.as_str()), later] {
            stages.push(doc! { "$unionWith": { "coll": self.changes.name(), "pipeline": pipeline } });
        }
        let Some(mut found) = self.snapshot(room, stages, deadline_now()).await? else { return Ok(None) };
        let rows: Vec<Document> = found.extract_if(.., |document| is_row(document)).collect();
        let totals: Vec<Document> = found.extract_if(.., |document| document.contains_key("sum")).collect();
        let Some(stored) = open_room(found)? else { return Ok(None) };
        let (record, log) = (stored.record()?, stored.document.log);
        let reset = Some(ChangesSince::reset(record.rev));
        if rev > record.rev || integer(rev) < log.floor {
            return Ok(reset);
        }
        let actual = match totals.into_iter().next() {
            Some(totals) => deserialize_from_document(totals).map_err(damaged)?,
            None => Log::default(),
        };
        if (actual.rows, actual.sum) != (log.rows, log.sum) {
            self.restart_log(room);
            return Ok(reset);
        }
        let mut parts = Parts::default();
        for row in rows {
            match read_row(row) {
                Ok((rev, part)) => part.into_iter().for_each(|part| parts.insert(rev, part)),
                Err(error) => {
                    note_damage(room.as_str(), &error);
                    return Ok(reset);
                }
            }
        }
        Ok(Some(parts.since(&record, types)))
    }

    /// Whether the room exists and its last change is `rev`.
    async fn is_open_at(&self, room: &RoomName, rev: u64) -> Result<bool, Error> {
        let at = doc! { "_id": room.as_str(), "rev": integer(rev), "archived": false };
        let rooms = self.rooms.clone_with_type::<Document>();
        let found = rooms.find_one(at).projection(doc! { "_id": 1 }).max_time(DEADLINE);
        Ok(with_deadline(deadline_now(), found).await?.is_some())
    }
}

/// Whether the document is a row of the change log.
fn is_row(document: &Document) -> bool {
    document.contains_key("type")
}

/// The room that was read, unless it is archived.
fn open_room(found: Vec<Document>) -> Result<Option<StoredRoom>, Error> {
    Ok(stored_room(found)?.filter(|stored| !stored.document.archived))
}

impl Parts {
    fn add(&mut self, change: &Change, room: &RoomRecord) {
        let parts = match &change.items {
            Some(items) => items.iter().map(Part::of).collect(),
            None => possible_parts(&change.what, room.room_info.owner.as_ref()),
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
