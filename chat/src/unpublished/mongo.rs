//! [`Unpublished`] in MongoDB, collection `untold`: one document for each room.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc, oid::ObjectId};
use proto::RoomName;
use remote::mongo::{Documents, Operation, Store, trial_of};
use serde::{Deserialize, Serialize};

use super::{AT_ONCE, Noted, Unpublished};
use crate::{
    Error,
    column::integer,
    mongo::{collection, count_failure, deadline_now, number, with_deadline},
};

/// The collection.
const COLLECTION: &str = "untold";

/// The effect of refused notes.
const NOT_NOTED: &str = "while Redis refuses messages, sends are unavailable";

/// The effect of refused deletions of notes.
const NOT_DELETED: &str = "rooms with a note are read twice a second";

/// The notes in one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MongoUnpublished {
    rooms: Documents<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    #[serde(rename = "_id")]
    room: String,
    /// The first message. Absent in notes of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<i64>,
    /// The last message.
    seq: i64,
}

impl Row {
    fn noted(self) -> Result<Option<Noted>, Error> {
        let (first, last) = (self.first.unwrap_or(self.seq).min(self.seq), self.seq);
        let Ok(room) = self.room.parse() else { return Ok(None) };
        Ok(Some(Noted { room, first: number(first)?, last: number(last)? }))
    }
}

impl MongoUnpublished {
    /// Notes in `store`, which may be unavailable.
    pub fn new(store: impl Into<Store>) -> Self {
        let rooms = collection(store, COLLECTION)
            .with_trial(trial)
            .with_optional(Operation::Update, NOT_NOTED)
            .with_optional(Operation::Delete, NOT_DELETED);
        Self { rooms }
    }

    /// Why rooms cannot be noted, as a phrase that follows "MongoDB". `None` when the last note was written.
    pub fn not_ready_reason(&self) -> Option<String> {
        self.rooms.refusal(Operation::Update)
    }
}

#[async_trait]
impl Unpublished for MongoUnpublished {
    async fn note(&self, room: &RoomName, first: u64, last: u64) -> Result<(), Error> {
        let extend = doc! { "$min": { "first": integer(first) }, "$max": { "seq": integer(last) } };
        let write = self.rooms.write(Operation::Update, async |rooms| {
            rooms.update_one(doc! { "_id": room.as_str() }, extend).upsert(true).await
        });
        with_deadline(deadline_now(), write).await.map(drop).inspect_err(|_| count_failure("notes"))
    }

    async fn all(&self) -> Result<Vec<Noted>, Error> {
        let found = async {
            let limit = i64::try_from(AT_ONCE).unwrap_or(i64::MAX);
            self.rooms.find(doc! {}).limit(limit).await?.try_collect::<Vec<Row>>().await
        };
        let rows = with_deadline(deadline_now(), found).await?;
        rows.into_iter().filter_map(|row| row.noted().transpose()).collect()
    }

    async fn resolve(&self, room: &RoomName, seq: u64) -> Result<(), Error> {
        let gone = doc! { "_id": room.as_str(), "seq": { "$lte": integer(seq) } };
        let delete = self.rooms.write(Operation::Delete, async |rooms| rooms.delete_one(gone).await);
        with_deadline(deadline_now(), delete).await.map(drop).inspect_err(|_| count_failure("notes"))
    }
}

/// The document of a trial write. Its `_id` is not a valid name of a room.
fn trial() -> Document {
    trial_of(Row { room: format!("trial {}", ObjectId::new()), first: Some(1), seq: 1 })
}
