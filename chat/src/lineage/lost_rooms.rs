//! Rooms that have messages and no document, because the collection of rooms was dropped or restored alone. Their names are taken, and no
//! user can enter them. Used by [`super::mongo`].

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use proto::{RoomName, event::RoomKind};
use remote::mongo::{Documents, Store};

use crate::{
    Error,
    mongo::{DEADLINE, MESSAGES, ROOMS, collection, deadline_now, with_deadline},
};

/// The state of the rooms of one database, as it was read last. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LostRooms {
    messages: Documents<Document>,
    /// The name of the collection of rooms.
    rooms: String,
    degradation: Arc<Mutex<Option<String>>>,
}

impl LostRooms {
    /// The field of the lineage by which all nodes search such rooms.
    pub const FIELD: &str = "may_lack_rooms";

    /// The rooms of `store`.
    pub fn new(store: &Store) -> Self {
        let rooms = store.deployment.collection(ROOMS);
        Self { messages: collection(store, MESSAGES), rooms, degradation: Arc::default() }
    }

    /// The loss and its remedy, as a text that follows "MongoDB". `None` when no room is lost.
    pub fn degradation(&self) -> Option<String> {
        self.degradation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that no room is lost.
    pub fn clear(&self) {
        *self.degradation.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Searches a room with messages and without a document, and logs the first one. Returns whether all rooms have documents; false when MongoDB does
    /// not answer.
    pub async fn are_all_found(&self) -> bool {
        let lost = match self.find().await {
            Ok(None) => {
                self.clear();
                return true;
            }
            Ok(Some(room)) => format!("for example of the room {room}"),
            Err(error) => format!("or they cannot be searched: {error}"),
        };
        let text = format!(
            "lacks documents of rooms that have messages ({lost}): the collection {} was dropped or restored alone; restore it from the latest backup. Until then these rooms cannot be entered, and their names are taken",
            self.rooms
        );
        let mut degradation = self.degradation.lock().unwrap_or_else(PoisonError::into_inner);
        if degradation.as_ref() != Some(&text) {
            tracing::error!("rooms are lost: MongoDB {text}");
        }
        *degradation = Some(text);
        false
    }

    /// A room with messages and without a document. The groups are read from the index of rooms and numbers.
    async fn find(&self) -> Result<Option<String>, Error> {
        let join = doc! { "from": &self.rooms, "localField": "_id", "foreignField": "_id", "as": "rooms" };
        let stages = [
            doc! { "$sort": { "room": 1, "seq": 1 } },
            doc! { "$group": { "_id": "$room", "seq": { "$first": "$seq" } } },
            doc! { "$lookup": join },
            doc! { "$match": { "rooms": [] } },
            // The lobby has no document.
            doc! { "$limit": 2_i64 },
        ];
        let read = async {
            let found = self.messages.aggregate(stages).max_time(DEADLINE).await?;
            found.try_collect::<Vec<Document>>().await
        };
        let found = with_deadline(deadline_now(), read).await?;
        let names = found.iter().filter_map(|found| found.get_str("_id").ok());
        let mut lost =
            names.filter(|name| name.parse().is_ok_and(|room: RoomName| !RoomKind::of(&room).is_built_in()));
        Ok(lost.next().map(str::to_owned))
    }
}
