//! The documents of messages in MongoDB: the document that is written, and the projections that are read. Pure.

use mongodb::bson::{DateTime, Document, doc};
use proto::{
    RoomName, Username,
    event::{Body, Message},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    column::integer,
    history::{Draft, RoomHead, StoredMessage},
    mongo::{damaged, date, number, timestamp},
};

/// The primary key of a message: its room and number, so that no number of a room is assigned twice.
#[derive(Debug, Serialize)]
struct Key {
    room: String,
    seq: i64,
}

/// The document of a new message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMessage {
    #[serde(rename = "_id")]
    key: Key,
    pub room: String,
    pub seq: i64,
    pub id: String,
    author: String,
    /// The canonical form of the author's name, under which names are unique.
    author_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    text: String,
    timestamp: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

/// The projection of a message for reads.
#[derive(Debug, Deserialize)]
pub struct Row {
    id: String,
    seq: i64,
    author: String,
    pub text: String,
    timestamp: DateTime,
    origin: Option<String>,
}

/// The projection of a room's last message.
#[derive(Debug, Deserialize)]
pub struct LastMessage {
    seq: i64,
    timestamp: DateTime,
}

/// The projection of an earlier message that has the author and `client_id` of a draft.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PriorMessage {
    pub author_key: String,
    pub client_id: String,
    pub id: String,
    pub seq: i64,
    pub text: String,
}

/// The projection of a message's id and number.
#[derive(Debug, Deserialize)]
pub struct IdAndSeq {
    pub id: String,
    pub seq: i64,
}

impl NewMessage {
    /// The document of `draft` as the message with the number and time of `at`.
    pub fn of(draft: &Draft, room: &RoomName, at: RoomHead) -> Self {
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
    /// The projection.
    pub fn fields() -> Document {
        doc! { "_id": 0, "id": 1, "seq": 1, "author": 1, "text": 1, "timestamp": 1, "origin": 1 }
    }

    /// The message of `room`.
    pub fn into_stored(self, room: &RoomName) -> Result<StoredMessage, Error> {
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

impl LastMessage {
    /// The room's head.
    pub fn head(self) -> Result<RoomHead, Error> {
        Ok(RoomHead { seq: number(self.seq)?, timestamp: timestamp(self.timestamp)? })
    }
}

impl PriorMessage {
    /// The projection.
    pub fn fields() -> Document {
        doc! { "_id": 0, "authorKey": 1, "clientId": 1, "id": 1, "seq": 1, "text": 1 }
    }
}

impl IdAndSeq {
    /// The projection.
    pub fn fields() -> Document {
        doc! { "_id": 0, "id": 1, "seq": 1 }
    }
}
