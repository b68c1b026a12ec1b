//! A message as a document of MongoDB: what is written, and the parts that are read. Pure.

use mongodb::bson::{DateTime, Document, doc};
use proto::{
    RoomName, Username,
    event::{Body, Message},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    column::integer,
    history::{Draft, Head, StoredMessage},
    mongo::{damaged, date, number, timestamp},
};

/// The primary key of a message: its room and number. MongoDB's index of primary keys cannot be dropped, so no number of a room
/// is ever given twice, whatever becomes of the other indexes. Messages of earlier releases have other primary keys.
#[derive(Debug, Serialize)]
struct Key {
    room: String,
    seq: i64,
}

/// A message that is new.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct New {
    #[serde(rename = "_id")]
    key: Key,
    pub room: String,
    pub seq: i64,
    pub id: String,
    author: String,
    /// The author's name in the one form under which names are unique.
    author_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    text: String,
    timestamp: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

/// A message as it is shown.
#[derive(Debug, Deserialize)]
pub struct Row {
    id: String,
    seq: i64,
    author: String,
    pub text: String,
    timestamp: DateTime,
    origin: Option<String>,
}

/// A message as the end of its room.
#[derive(Debug, Deserialize)]
pub struct End {
    seq: i64,
    timestamp: DateTime,
}

/// A message as its author's earlier one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    pub author_key: String,
    pub client_id: String,
    pub id: String,
    pub seq: i64,
    pub text: String,
}

/// A message by its id and place.
#[derive(Debug, Deserialize)]
pub struct Place {
    pub id: String,
    pub seq: i64,
}

impl New {
    /// `draft` as the message at `at`.
    pub fn of(draft: &Draft, room: &RoomName, at: Head) -> Self {
        Self {
            key: Key { room: room.as_str().to_owned(), seq: integer(at.seq) },
            room: room.as_str().to_owned(),
            seq: integer(at.seq),
            id: draft.id.clone(),
            author: draft.author.as_str().to_owned(),
            author_key: draft.author.key(),
            client_id: draft.client_id.as_ref().map(|id| id.as_str().to_owned()),
            text: draft.text.as_str().to_owned(),
            timestamp: date(at.timestamp),
            origin: draft.origin.clone(),
        }
    }
}

impl Row {
    /// What a projection must hold for a row.
    pub fn fields() -> Document {
        doc! { "_id": 0, "id": 1, "seq": 1, "author": 1, "text": 1, "timestamp": 1, "origin": 1 }
    }

    /// The message.
    pub fn kept(self, room: &RoomName) -> Result<StoredMessage, Error> {
        let message = Message {
            id: self.id,
            room: room.clone(),
            seq: number(self.seq)?,
            from: Username::try_from(self.author).map_err(damaged)?,
            data: Body { text: self.text },
            timestamp: timestamp(self.timestamp)?,
        };
        Ok(StoredMessage { message, origin: self.origin })
    }
}

impl End {
    /// Where the room ends.
    pub fn head(self) -> Result<Head, Error> {
        Ok(Head { seq: number(self.seq)?, timestamp: timestamp(self.timestamp)? })
    }
}

impl Said {
    /// What a projection must hold.
    pub fn fields() -> Document {
        doc! { "_id": 0, "authorKey": 1, "clientId": 1, "id": 1, "seq": 1, "text": 1 }
    }
}

impl Place {
    /// What a projection must hold.
    pub fn fields() -> Document {
        doc! { "_id": 0, "id": 1, "seq": 1 }
    }
}
