//! Reads of rooms with their members. The document of a room is read first, then its members, then the changes of the document that are not
//! in the collection of members yet are applied to them. A reader sees each change completely or not at all: members that do not have the
//! totals of the document are read again when the room has changed meanwhile, and are damaged when it has not.

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use proto::RoomName;
use tokio::time::{Instant, sleep};

use super::{
    MongoDirectory,
    document::{RoomDocument, StoredRoom},
    membership::Membership,
    writes::BACKOFF_STEP,
};
use crate::{
    Error,
    mongo::{DEADLINE, damaged, with_deadline},
};

/// Maximum number of reads of a room that changes at the same time.
const MAX_READS: u32 = 16;

/// The number of members in one answer of MongoDB.
const BATCH: u32 = 20_000;

impl MongoDirectory {
    /// The room. `None` when it does not exist.
    ///
    /// # Errors
    /// When MongoDB does not answer, or the room or its members are damaged.
    pub(super) async fn load(&self, room: &RoomName, deadline: Instant) -> Result<Option<StoredRoom>, Error> {
        Ok(self.read(room, Some(RoomDocument::fields()), deadline).await?.map(|(room, _)| room))
    }

    /// The room and its whole document, with the latest changes.
    ///
    /// # Errors
    /// As [`MongoDirectory::load`].
    pub(super) async fn load_with_changes(
        &self,
        room: &RoomName,
        deadline: Instant,
    ) -> Result<Option<(StoredRoom, Document)>, Error> {
        self.read(room, None, deadline).await
    }

    /// The document of a room without its members.
    pub(super) async fn load_document(
        &self,
        room: &RoomName,
        deadline: Instant,
    ) -> Result<Option<RoomDocument>, Error> {
        let found = self.find_document(room, Some(RoomDocument::fields()), deadline).await?;
        found.map(RoomDocument::read).transpose()
    }

    /// A room's document. All fields without `fields`.
    pub(super) async fn find_document(
        &self,
        room: &RoomName,
        fields: Option<Document>,
        deadline: Instant,
    ) -> Result<Option<Document>, Error> {
        let mut found = self.rooms.find_one(doc! { "_id": room.as_str() }).max_time(DEADLINE);
        if let Some(fields) = fields {
            found = found.projection(fields);
        }
        with_deadline(deadline, found).await
    }

    async fn read(
        &self,
        room: &RoomName,
        fields: Option<Document>,
        deadline: Instant,
    ) -> Result<Option<(StoredRoom, Document)>, Error> {
        for number in 0..MAX_READS {
            sleep(BACKOFF_STEP * number).await;
            let Some(found) = self.find_document(room, fields.clone(), deadline).await? else {
                return Ok(None);
            };
            let document = RoomDocument::read(found.clone())?;
            let pending = document.pending()?;
            let stored = self.stored_members(room, document.began, deadline).await?;
            if let Some(members) = document.members(stored, pending.writes.iter().cloned()) {
                self.apply_abandoned(room, &pending);
                return Ok(Some((StoredRoom { document, members }, found)));
            }
            if self.has_version(room, document.version, deadline).await? {
                if document.archived {
                    // Another room is about to take its name, and its members are being deleted.
                    let stored = self.stored_members(room, document.began, deadline).await?;
                    let members = document.unchecked_members(stored, pending.writes);
                    return Ok(Some((StoredRoom { document, members }, found)));
                }
                let members = self.repaired(room, &document, deadline).await?;
                return Ok(Some((StoredRoom { document, members }, found)));
            }
        }
        Err(Error::full())
    }

    /// The members in the collection, after the version `began`.
    pub(super) async fn stored_members(
        &self,
        room: &RoomName,
        began: i64,
        deadline: Instant,
    ) -> Result<Vec<Membership>, Error> {
        let members = async {
            let found = self.members.find(of_room(room, began)).batch_size(BATCH).max_time(DEADLINE);
            found.await?.try_collect::<Vec<Membership>>().await
        };
        with_deadline(deadline, members).await
    }

    /// Whether the room has this version.
    async fn has_version(&self, room: &RoomName, version: i64, deadline: Instant) -> Result<bool, Error> {
        let at = doc! { "_id": room.as_str(), "version": version };
        let found = self.rooms.find_one(at).projection(doc! { "_id": 1 }).max_time(DEADLINE);
        Ok(with_deadline(deadline, found).await?.is_some())
    }

    /// The members of a room whose collection of members has an earlier state than the room's document states, as after the restore of a
    /// backup that was not taken at one point in time. Its latest changes may contain what is missing. They are then applied again.
    ///
    /// # Errors
    /// When they do not. The members are not guessed: a member who is missing may be the owner.
    async fn repaired(
        &self,
        room: &RoomName,
        document: &RoomDocument,
        deadline: Instant,
    ) -> Result<Vec<Membership>, Error> {
        let found = self.find_document(room, None, deadline).await?.ok_or(Error::NotFound)?;
        let (version, found) = (document.version, RoomDocument::read(found)?);
        let (stored, writes) =
            (self.stored_members(room, found.began, deadline).await?, found.recent_writes());
        match found.members(stored, writes.iter().cloned()).filter(|_| found.version == version) {
            Some(members) => {
                tracing::warn!(%room, "the members of a room were older than the room; its latest changes are applied to them again");
                self.apply_again(room, writes);
                Ok(members)
            }
            None if found.version != version => Err(Error::full()),
            None => {
                metrics::counter!("godzilla_chat_damaged_rooms_total").increment(1);
                Err(damaged(format_args!(
                    "the members of the room {room} are not those that its document states: the collection {} or {} lost documents or was \
                     restored alone; restore both from one backup",
                    self.members.name(),
                    self.rooms.name()
                )))
            }
        }
    }
}

impl MongoDirectory {
    /// The name of a room whose members in the collection have not the totals that its document states. Rooms with changes that are not
    /// applied yet are not read.
    ///
    /// # Errors
    /// When MongoDB does not answer.
    pub async fn room_with_other_members(&self) -> Result<Option<String>, Error> {
        let is_of_room = doc! { "$and": [
            { "$eq": [{ "$type": "$role" }, "string"] },
            { "$gt": ["$rev", { "$ifNull": ["$$began", 0] }] },
        ] };
        let totals = doc! { "_id": null, "count": { "$sum": 1 }, "sum": { "$sum": "$rev" } };
        let join = doc! {
            "from": self.members.name(), "localField": "_id", "foreignField": "room", "let": { "began": "$began" },
            "pipeline": [{ "$match": { "$expr": is_of_room } }, { "$group": totals }], "as": "found",
        };
        let differs = |field: &str| {
            let found = doc! { "$ifNull": [{ "$first": format!("$found.{field}") }, 0] };
            doc! { "$ne": [found, format!("${field}")] }
        };
        let stages = [
            doc! { "$match": { "count": { "$exists": true }, "$expr": { "$eq": ["$applied", "$version"] } } },
            doc! { "$project": { "count": 1, "sum": 1, "began": 1 } },
            doc! { "$lookup": join },
            doc! { "$match": { "$expr": { "$or": [differs("count"), differs("sum")] } } },
            doc! { "$limit": 1_i64 },
            doc! { "$project": { "_id": 1 } },
        ];
        let read = async {
            let found = self.rooms.aggregate(stages).max_time(DEADLINE).await?;
            found.try_collect::<Vec<Document>>().await
        };
        let found = with_deadline(Instant::now() + DEADLINE, read).await?;
        Ok(found.first().and_then(|room| room.get_str("_id").ok()).map(str::to_owned))
    }
}

/// The filter for the members of a room in the collection.
pub(super) fn of_room(room: &RoomName, began: i64) -> Document {
    doc! { "room": room.as_str(), "role": { "$type": "string" }, "rev": { "$gt": began } }
}
