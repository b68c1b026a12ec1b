//! [`Untold`] in MongoDB, collection `untold`: one document for each room.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::{Collection, bson::doc};
use proto::RoomName;
use remote::mongo::Store;
use serde::{Deserialize, Serialize};

use super::{AT_ONCE, Untold};
use crate::{
    Error,
    column::integer,
    mongo::{collection, due, number, within},
};

/// The collection.
const COLLECTION: &str = "untold";

/// The rooms of one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoUntold {
    rooms: Collection<Noted>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    #[serde(rename = "_id")]
    room: String,
    seq: i64,
}

impl MongoUntold {
    /// In `store`, which need not be there yet.
    pub fn new(store: impl Into<Store>) -> Self {
        Self { rooms: collection(store, COLLECTION) }
    }
}

#[async_trait]
impl Untold for MongoUntold {
    async fn note(&self, room: &RoomName, seq: u64) -> Result<(), Error> {
        let raise = doc! { "$max": { "seq": integer(seq) } };
        let write = self.rooms.update_one(doc! { "_id": room.as_str() }, raise).upsert(true);
        within(due(), write).await.map(drop)
    }

    async fn all(&self) -> Result<Vec<(RoomName, u64)>, Error> {
        let found = async {
            let limit = i64::try_from(AT_ONCE).unwrap_or(i64::MAX);
            self.rooms.find(doc! {}).limit(limit).await?.try_collect::<Vec<Noted>>().await
        };
        let noted = within(due(), found).await?;
        let rooms = noted.into_iter().filter_map(|noted| Some((noted.room.parse().ok()?, noted.seq)));
        rooms.map(|(room, seq)| Ok((room, number(seq)?))).collect()
    }

    async fn settled(&self, room: &RoomName, seq: u64) -> Result<(), Error> {
        let gone = doc! { "_id": room.as_str(), "seq": { "$lte": integer(seq) } };
        within(due(), self.rooms.delete_one(gone)).await.map(drop)
    }
}
