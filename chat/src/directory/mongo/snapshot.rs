//! Reads of a room with its members, and of its change log, in one snapshot.

use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{Bson, Document, deserialize_from_document, doc},
    error::Error as MongoError,
    options::ReadConcern,
};
use proto::RoomName;
use remote::mongo::is_snapshot_unavailable;
use tokio::time::{Instant, sleep};

use super::{
    MongoDirectory,
    document::{MemberDocument, RoomDocument, StoredRoom},
};
use crate::{
    Error,
    mongo::{DEADLINE, damaged, with_deadline},
};

/// The delay before a later snapshot is read.
const LATER: Duration = Duration::from_millis(10);

impl MongoDirectory {
    /// The stages that read a room, and then its members in the order in which they joined. The fields of the room can be restricted by the
    /// projection `fields`.
    pub(super) fn room_stages(&self, room: &RoomName, fields: Document) -> Vec<Document> {
        let members = vec![doc! { "$match": { "_id.room": room.as_str() } }, doc! { "$sort": by_age() }];
        vec![
            doc! { "$match": { "_id": room.as_str() } },
            doc! { "$project": fields },
            doc! { "$unionWith": { "coll": self.members.name(), "pipeline": members } },
        ]
    }

    /// The documents that `stages` read, of which the first is the room, in one snapshot that a majority has. `None` when the room does not
    /// exist. MongoDB chooses the snapshot. It is read again if it is older than this call.
    pub(super) async fn snapshot(
        &self,
        room: &RoomName,
        stages: Vec<Document>,
        deadline: Instant,
    ) -> Result<Option<Vec<Document>>, Error> {
        let Some(least) = self.stored_rev(room, deadline).await? else { return Ok(None) };
        let read = async {
            loop {
                let rooms = self.rooms.aggregate(stages.clone()).read_concern(ReadConcern::snapshot());
                let found = async { rooms.max_time(DEADLINE).await?.try_collect::<Vec<Document>>().await };
                match found.await {
                    Ok(found) if found.first().is_some_and(|room| rev_of(room) >= Some(least)) => {
                        return Ok(found);
                    }
                    Ok(_) => tracing::debug!(%room, "a snapshot of a room is old and is read again"),
                    Err(error) if is_snapshot_unavailable(&error) => {}
                    Err(error) => return Err(error),
                }
                sleep(LATER).await;
            }
        };
        with_deadline::<_, MongoError>(deadline, read).await.map(Some)
    }

    /// The number of the last change of a room that a majority has. `None` when the room does not exist, 0 when the number is damaged.
    async fn stored_rev(&self, room: &RoomName, deadline: Instant) -> Result<Option<i64>, Error> {
        let rooms = self.rooms.clone_with_type::<Document>();
        let found = rooms.find_one(doc! { "_id": room.as_str() }).projection(doc! { "rev": 1 });
        Ok(with_deadline(deadline, found.max_time(DEADLINE)).await?.as_ref().and_then(rev_of))
    }

    /// The room with its members. `None` when it does not exist.
    pub(super) async fn load(&self, room: &RoomName, deadline: Instant) -> Result<Option<StoredRoom>, Error> {
        let stages = self.room_stages(room, doc! { "recent": 0 });
        match self.snapshot(room, stages, deadline).await? {
            Some(found) => stored_room(found),
            None => Ok(None),
        }
    }

    /// As [`MongoDirectory::load`], in the snapshot of a transaction.
    pub(super) async fn load_in(
        &self,
        session: &mut ClientSession,
        room: &RoomName,
    ) -> Result<Result<Option<StoredRoom>, Error>, MongoError> {
        let rooms = self.rooms.clone_with_type::<Document>();
        let found = rooms.find_one(doc! { "_id": room.as_str() }).projection(doc! { "recent": 0 });
        let Some(found) = found.session(&mut *session).await? else { return Ok(Ok(None)) };
        let members = self.members.clone_with_type::<Document>();
        let members = members.find(doc! { "_id.room": room.as_str() }).sort(by_age());
        let mut members = members.session(&mut *session).await?;
        let members: Vec<Document> = members.stream(session).try_collect().await?;
        Ok(stored_room([found].into_iter().chain(members)))
    }
}

/// The number of changes in the document of a room; 0 when it is damaged. `None` for another document.
fn rev_of(document: &Document) -> Option<i64> {
    document.get_str("_id").ok().map(|_| document.get_i64("rev").unwrap_or(0))
}

/// The order of the members of a room: that in which they joined.
fn by_age() -> Document {
    doc! { "_id.room": 1, "since": 1, "_id.key": 1 }
}

/// The room and its members, as [`MongoDirectory::room_stages`] reads them.
pub(super) fn stored_room(found: impl IntoIterator<Item = Document>) -> Result<Option<StoredRoom>, Error> {
    let mut found = found.into_iter().peekable();
    // Members can exist without their room.
    let Some(room) = found.next_if(|first| matches!(first.get("_id"), Some(Bson::String(_)))) else {
        return Ok(None);
    };
    if room.contains_key("version") && !room.contains_key("rev") {
        return Err(Error::Store(
            "a room has the form of an earlier release: stop all chat nodes, and run `godzilla migrate`"
                .to_owned(),
        ));
    }
    let document: RoomDocument = deserialize_from_document(room).map_err(damaged)?;
    let members = found.map(|member| {
        let member: MemberDocument = deserialize_from_document(member).map_err(damaged)?;
        member.member()
    });
    let members = members.collect::<Result<_, _>>()?;
    Ok(Some(StoredRoom { document, members }))
}
