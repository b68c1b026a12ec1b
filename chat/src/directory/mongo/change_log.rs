//! The change log of rooms: the collection `changes` has one row for each part of a room that has changed, with the number of its last
//! change. A change writes its rows in its transaction. A room's document contains the latest changes (`recent`, at most [`KEPT`]), so that
//! most clients are answered from it alone.
//!
//! The room's document has the number of its rows and the sum of their numbers ([`Log`]). When rows are lost, because the collection was
//! dropped, restored alone or changed, these differ. Then clients load the room anew, and the log begins at the present change.

use std::sync::PoisonError;

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{Document, doc, oid::ObjectId},
};
use proto::RoomName;
use remote::mongo::Operation;
use serde::Deserialize;

use super::{MongoDirectory, document::Log, numbered::Numbered, rounds::Fault};
use crate::{
    Error,
    directory::{ChangeKind, change::Part},
    mongo::{damaged, deadline_now, number, with_deadline},
};

/// Name of the collection of rows.
pub const COLLECTION: &str = crate::mongo::CHANGES;

/// The effect of refused deletions of rows.
pub const NOT_DELETED: &str = "names of ended rooms cannot be used again";

/// The document of a trial write.
pub fn trial() -> Document {
    let id = format!("trial {}", ObjectId::new());
    doc! { "_id": { "room": &id, "type": "room", "key": "" }, "room": id, "type": "room", "key": "", "rev": 1_i64 }
}

/// A document of the collection.
#[derive(Debug, Deserialize)]
struct Row {
    #[serde(rename = "type")]
    kind: String,
    key: String,
    rev: i64,
}

/// The rows that a change writes.
#[derive(Debug, Default)]
pub(super) struct RowWrites {
    /// The documents of parts that have not changed before.
    pub new: Vec<Document>,
    /// The ids of the other rows, and their new number.
    pub existing: Vec<(Document, i64)>,
    /// The number of new rows.
    pub added: i64,
    /// The amount by which the sum of the numbers grows.
    pub raised: i64,
}

impl RowWrites {
    /// The rows of `parts`, which change with the number `rev`. `found` are the ids and numbers of those that exist.
    pub(super) fn of(room: &RoomName, parts: &[Part], rev: i64, found: &[(Document, i64)]) -> Self {
        let mut this = Self::default();
        for part in parts {
            let id = row_id(room, part);
            match found.iter().find(|(existing, _)| *existing == id) {
                Some((_, before)) => {
                    this.raised += rev - before;
                    this.existing.push((id, rev));
                }
                None => {
                    this.raised += rev;
                    this.added += 1;
                    let kind = part.kind().name();
                    this.new.push(
                        doc! { "_id": id, "room": room.as_str(), "type": kind, "key": part.name(), "rev": rev },
                    );
                }
            }
        }
        this
    }
}

impl RowWrites {
    /// The increments of the numbers of the log in the room's document.
    pub(super) fn raise(&self) -> Document {
        doc! { "log.rows": self.added, "log.sum": self.raised }
    }
}

/// The `_id` of the row of a part.
pub(super) fn row_id(room: &RoomName, part: &Part) -> Document {
    doc! { "room": room.as_str(), "type": part.kind().name(), "key": part.key() }
}

/// The number and the changed part of a row. Without a part for a type that a later release stores.
pub(super) fn read_row(document: Document) -> Result<(u64, Option<Part>), Error> {
    let row: Row = mongodb::bson::deserialize_from_document(document).map_err(damaged)?;
    Ok((number(row.rev)?, Part::stored(&row.kind, row.key).map_err(damaged)?))
}

/// The stages that count the rows of a room and add up their numbers. The result is like [`Log`]. A room without rows has no result.
pub(super) fn totals(room: &str) -> Vec<Document> {
    vec![
        doc! { "$match": { "room": room } },
        doc! { "$group": { "_id": null, "rows": { "$sum": 1_i64 }, "sum": { "$sum": "$rev" } } },
    ]
}

impl MongoDirectory {
    /// Reads which rows of a change exist, in the snapshot of its transaction.
    pub(super) async fn row_writes(
        &self,
        session: &mut ClientSession,
        numbered: &Numbered<'_>,
    ) -> Result<RowWrites, Fault> {
        let (room, parts) = (numbered.room, numbered.entry.parts());
        let rev = numbered.before + 1;
        // A new room, and one that takes the place of another, have no rows.
        if matches!(numbered.entry.what(), ChangeKind::Renewed(_)) || numbered.before == 0 {
            return Ok(RowWrites::of(room, &parts, rev, &[]));
        }
        let ids: Vec<Document> = parts.iter().map(|part| row_id(room, part)).collect();
        let rows = self.changes.find(doc! { "_id": { "$in": ids } });
        let mut rows = rows.projection(doc! { "rev": 1 }).session(&mut *session).await?;
        let rows: Vec<Document> = rows.stream(session).try_collect().await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.get_document("_id").map_err(damaged)?.clone();
            // A number of another type counts as 0, as in the sum of the server.
            found.push((id, row.get_i64("rev").unwrap_or(0)));
        }
        Ok(RowWrites::of(room, &parts, rev, &found))
    }

    /// Makes the log of a room begin at its present change, in the background, because its rows are not those that its document states.
    pub(super) fn restart_log(&self, room: &RoomName) {
        let (this, room) = (self.clone(), room.clone());
        if !this.restarting.lock().unwrap_or_else(PoisonError::into_inner).insert(room.clone()) {
            return;
        }
        tracing::warn!(%room, "rows of a room are missing in the collection `changes`: clients that have missed more than its latest changes load the room anew");
        tokio::spawn(async move {
            if let Err(error) = this.write_restart(&room).await {
                tracing::warn!(%room, %error, "the change log of a room cannot be restarted; the next read retries");
            }
            this.restarting.lock().unwrap_or_else(PoisonError::into_inner).remove(&room);
        });
    }

    async fn write_restart(&self, room: &RoomName) -> Result<(), Error> {
        let deadline = deadline_now();
        let mut stages = self.room_stages(room, doc! { "rev": 1, "log": 1 });
        // Without the members.
        stages.truncate(2);
        stages
            .push(doc! { "$unionWith": { "coll": self.changes.name(), "pipeline": totals(room.as_str()) } });
        let found = self.snapshot(room, stages, deadline).await?.unwrap_or_default();
        let Some(stored) = found.first() else { return Ok(()) };
        let rev = stored.get_i64("rev").map_err(damaged)?;
        let actual = match found.get(1) {
            Some(totals) => mongodb::bson::deserialize_from_document(totals.clone()).map_err(damaged)?,
            None => Log::default(),
        };
        // A concurrent change increments `rev` and prevents this write; the next read restarts the log.
        let at = doc! { "_id": room.as_str(), "rev": rev };
        let log = Log { floor: rev, ..actual };
        let write = self.rooms.write(Operation::Update, async |rooms| {
            rooms.update_one(at, doc! { "$set": { "log": log.document() } }).await
        });
        with_deadline(deadline, write).await.map(drop)
    }

    /// Makes all rooms answer numbers before their present change with a reset, except those that their latest changes cover, because the
    /// collection of rows was dropped or restored.
    pub async fn reset_older_changes(&self) -> Result<(), Error> {
        let raised = doc! { "$set": { "log.floor": { "$max": ["$log.floor", "$rev"] } } };
        let update = self.rooms.write(Operation::Update, async |rooms| {
            rooms.update_many(doc! { "rev": { "$exists": true } }, vec![raised]).await
        });
        with_deadline(deadline_now(), update).await.map(drop)
    }

    /// Deletes the rows of an ended room, in parts that no deadline of a transaction limits. Rows that remain are deleted in the transaction
    /// that reuses the name.
    pub(super) async fn delete_rows(&self, room: &RoomName) -> Result<(), Error> {
        let delete = self.changes.write(Operation::Delete, async |changes| {
            changes.delete_many(doc! { "room": room.as_str() }).await
        });
        with_deadline(deadline_now(), delete).await.map(drop)
    }
}
