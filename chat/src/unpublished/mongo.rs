//! [`Unpublished`] in MongoDB, collection `untold`: one document for each room.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::{Collection, bson::doc};
use proto::RoomName;
use remote::mongo::Store;
use serde::{Deserialize, Serialize};

use super::{AT_ONCE, Noted, Unpublished};
use crate::{
    Error,
    column::integer,
    mongo::{count_failure, damaged, deadline_now, number, with_deadline},
};

/// The collection.
const COLLECTION: &str = "untold";

/// The notes in one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoUnpublished {
    rooms: Collection<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    #[serde(rename = "_id")]
    room: String,
    /// The first message.
    first: i64,
    /// The last message.
    seq: i64,
}

impl Row {
    fn noted(self) -> Result<Noted, Error> {
        let room = self.room.parse().map_err(damaged)?;
        Ok(Noted { room, first: number(self.first)?, last: number(self.seq)? })
    }
}

impl MongoUnpublished {
    /// Notes in `store`, which may be unavailable.
    pub fn new(store: impl Into<Store>) -> Self {
        Self { rooms: store.into().collection(COLLECTION) }
    }
}

#[async_trait]
impl Unpublished for MongoUnpublished {
    async fn note(&self, room: &RoomName, first: u64, last: u64) -> Result<(), Error> {
        let extend = doc! { "$min": { "first": integer(first) }, "$max": { "seq": integer(last) } };
        let write = self.rooms.update_one(doc! { "_id": room.as_str() }, extend).upsert(true);
        with_deadline(deadline_now(), write).await.map(drop).inspect_err(|_| count_failure("notes"))
    }

    async fn all(&self) -> Result<Vec<Noted>, Error> {
        let found = async {
            let limit = i64::try_from(AT_ONCE).unwrap_or(i64::MAX);
            self.rooms.find(doc! {}).limit(limit).await?.try_collect::<Vec<Row>>().await
        };
        let rows = with_deadline(deadline_now(), found).await?;
        rows.into_iter().map(Row::noted).collect()
    }

    async fn resolve(&self, room: &RoomName, seq: u64) -> Result<(), Error> {
        let gone = doc! { "_id": room.as_str(), "seq": { "$lte": integer(seq) } };
        let delete = self.rooms.delete_one(gone);
        with_deadline(deadline_now(), delete).await.map(drop).inspect_err(|_| count_failure("notes"))
    }
}
