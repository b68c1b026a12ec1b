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

/// The delay after which a snapshot that could not be read is followed by a later one.
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

    /// The documents of one snapshot that a majority has.
    pub(super) async fn snapshot(
        &self,
        stages: Vec<Document>,
        deadline: Instant,
    ) -> Result<Vec<Document>, Error> {
        let read = async {
            loop {
                let rooms = self.rooms.aggregate(stages.clone()).read_concern(ReadConcern::snapshot());
                let found = async { rooms.max_time(DEADLINE).await?.try_collect::<Vec<Document>>().await };
                match found.await {
                    Err(error) if is_snapshot_unavailable(&error) => sleep(LATER).await,
                    result => return result,
                }
            }
        };
        with_deadline::<_, MongoError>(deadline, read).await
    }

    /// The room with its members. `None` when it does not exist.
    pub(super) async fn load(&self, room: &RoomName, deadline: Instant) -> Result<Option<StoredRoom>, Error> {
        let found = self.snapshot(self.room_stages(room, doc! { "recent": 0 }), deadline).await?;
        stored_room(found)
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
