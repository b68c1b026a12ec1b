//! Whether the collection of older changes is complete. It can be dropped, restored alone to an older state, or lose documents, while the rooms
//! stay. Called by [`super::change_log`] and [`crate::lineage::mongo`].

use mongodb::bson::doc;
use proto::RoomName;
use remote::mongo::Operation;
use tokio::time::Instant;

use super::{MongoDirectory, document::RoomDocument};
use crate::{
    Error,
    column::integer,
    mongo::{DEADLINE, deadline_now, with_deadline},
};

impl MongoDirectory {
    /// The number of documents of a room in the collection, at most `limit`.
    pub(super) async fn count_copies(
        &self,
        room: &RoomName,
        limit: Option<u64>,
        deadline: Instant,
    ) -> Result<i64, Error> {
        let mut count = self.changes.count_documents(doc! { "room": room.as_str() }).max_time(DEADLINE);
        if let Some(limit) = limit {
            count = count.limit(limit);
        }
        Ok(integer(with_deadline(deadline, count).await?))
    }

    /// Whether the collection has the documents that the room's document states: as many as were copied, and the one of the last change
    /// that was copied, or of a later one that is being copied. It has not when documents were deleted, or an older state of the
    /// collection was restored.
    pub(super) async fn has_copies(
        &self,
        room: &RoomName,
        document: &RoomDocument,
        deadline: Instant,
    ) -> Result<bool, Error> {
        // Rooms of earlier releases have no number of documents.
        let Some(expected) = u64::try_from(document.log_parts).ok().filter(|expected| *expected > 0) else {
            return Ok(true);
        };
        let last = doc! { "room": room.as_str(), "rev": { "$gte": document.logged } };
        let last = self.changes.find_one(last).projection(doc! { "_id": 1 }).max_time(DEADLINE);
        if with_deadline(deadline, last).await?.is_none() {
            return Ok(false);
        }
        Ok(self.count_copies(room, Some(expected), deadline).await? >= document.log_parts)
    }

    /// Makes all rooms answer numbers before their last copied change with a reset, because the collection of older changes was dropped or
    /// restored.
    pub async fn reset_older_changes(&self) -> Result<(), Error> {
        let raised =
            doc! { "$set": { "log_floor": { "$max": ["$log_floor", "$logged"] }, "log_parts": 0_i64 } };
        let update = self.rooms.write(Operation::Update, async |rooms| {
            rooms.update_many(doc! { "logged": { "$gt": 0_i64 } }, vec![raised]).await
        });
        with_deadline(deadline_now(), update).await.map(drop)
    }
}
