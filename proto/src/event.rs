//! The Socket.IO events of the chat: event names and payloads. Order of this file: server to client, client to server,
//! acks.

mod change;
mod permission;
mod refused;
mod settings;

use serde::{Deserialize, Serialize};

pub use self::{
    change::{Change, Item, ItemType, MemberState, RoomKind, RoomState},
    permission::{Act, Role, Verdict},
    refused::{Code, Refused},
    settings::{Settings, SettingsPatch},
};
use crate::{RoomName, Timestamp, Username};

/// Event names. Other code uses these constants and no literals.
pub mod name {
    /// Server to client, once, directly after CONNECT.
    pub const WELCOME: &str = "welcome";
    /// A message. Both directions.
    pub const MESSAGE: &str = "message";
    /// Server to client: all users online. Sent while their number is at most the configured list limit.
    pub const PRESENCE: &str = "presence";
    /// Server to client: users that came online and went offline.
    pub const PRESENCE_DIFF: &str = "presence:diff";
    /// Typing state. Both directions.
    pub const TYPING: &str = "typing";
    /// Server to client: a user became a member of a room.
    pub const ROOM_JOINED: &str = "room:joined";
    /// Server to client: a user is no longer a member of a room.
    pub const ROOM_LEFT: &str = "room:left";
    /// Server to client: members or properties of a room changed.
    pub const CHANGE: &str = "change";
    /// Server to client: an event without an ack was refused, or the server is about to close the connection.
    pub const ERROR: &str = "error";
    /// Client to server: join a room.
    pub const JOIN: &str = "join";
    /// Client to server: leave a room.
    pub const LEAVE: &str = "leave";
    /// Client to server: read older messages.
    pub const HISTORY: &str = "history";
}

/// Payload of [`name::WELCOME`].
#[derive(Debug, Clone, Serialize)]
pub struct Welcome {
    /// A greeting for display.
    pub message: String,
    /// The authenticated user of this connection.
    pub username: Username,
    /// The time of the connection.
    pub timestamp: Timestamp,
}

/// Payload of [`name::MESSAGE`], and one item of a history response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Opaque identifier, unique in the deployment.
    pub id: String,
    /// The room of the message.
    pub room: RoomName,
    /// Sequence number in the room: 1, 2, 3, ... without gaps.
    pub seq: u64,
    /// The author.
    pub from: Username,
    /// The content.
    pub data: Body,
    /// Time of storage. It is never earlier than the timestamp of a smaller `seq` of the room.
    pub timestamp: Timestamp,
}

/// Content of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Plain text without markup.
    pub text: String,
}

/// Payload of [`name::PRESENCE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// Names of all users online, sorted.
    pub online: Vec<String>,
}

/// Payload of [`name::PRESENCE_DIFF`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PresenceDiff {
    /// Names that came online, sorted.
    pub joined: Vec<String>,
    /// Names that went offline, sorted.
    pub left: Vec<String>,
    /// Number of users online after this change.
    pub count: u32,
}

/// Payload of [`name::TYPING`] from the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Typing {
    /// Names of all users that type in the room, sorted.
    pub users: Vec<String>,
    /// The room.
    pub room: String,
}

/// Payload of [`name::ROOM_JOINED`] and [`name::ROOM_LEFT`].
#[derive(Debug, Clone, Serialize)]
pub struct Membership {
    /// The room.
    pub room: RoomName,
    /// The user that joined or left.
    pub username: Username,
    /// The number of the change, as in [`Change`].
    pub rev: u64,
    /// The role of a user that joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The user that made the change, if it was another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Username>,
}

/// Payload of a client's [`name::MESSAGE`]. Unknown fields are ignored, because clients of the original application send more
/// fields than `text`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Post {
    /// The text.
    pub text: String,
    /// The room. Default: the lobby.
    #[serde(default = "RoomName::lobby", deserialize_with = "crate::lenient::or_lobby")]
    pub room: RoomName,
    /// Idempotency key of the sender. A second message with the same key of the same author in the room is not stored; its ack
    /// contains the first result.
    #[serde(default)]
    pub client_id: Option<ClientId>,
}

/// Payload of a client's [`name::TYPING`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetTyping {
    /// Whether the user types.
    pub is_typing: bool,
    /// The room. Default: the lobby.
    #[serde(default = "RoomName::lobby", deserialize_with = "crate::lenient::or_lobby")]
    pub room: RoomName,
}

/// Payload of a client's [`name::JOIN`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Join {
    /// The room to join.
    pub room: RoomName,
    /// The last `seq` that the client holds. The ack then contains the messages after it.
    #[serde(default, deserialize_with = "crate::lenient::whole")]
    pub since: Option<u64>,
    /// The offset that the client received with that `seq` or before, or an empty string. The response then contains an offset.
    #[serde(default)]
    pub offset: Option<String>,
    /// The number of the last change that the client has applied. The ack then contains the changes after it.
    #[serde(default, deserialize_with = "crate::lenient::whole")]
    pub rev: Option<u64>,
    /// The smallest `seq` that the client holds.
    #[serde(default, deserialize_with = "crate::lenient::whole")]
    pub oldest: Option<u64>,
    /// The types of the items that the client needs. Unknown types are ignored. Default: all types.
    #[serde(default)]
    pub types: Option<Vec<String>>,
    /// Whether a user who is not a member joins. Default: true.
    #[serde(default)]
    pub enter: Option<bool>,
}

/// Payload of a client's [`name::LEAVE`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Leave {
    /// The room to leave.
    pub room: RoomName,
}

/// Payload of a client's [`name::HISTORY`], and the query of `GET /rooms/{room}/messages`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct History {
    /// The room.
    #[serde(default = "RoomName::lobby", deserialize_with = "crate::lenient::or_lobby")]
    pub room: RoomName,
    /// Only messages with a smaller `seq`.
    #[serde(default, deserialize_with = "crate::lenient::whole")]
    pub before: Option<u64>,
    /// Only messages with a larger `seq`.
    #[serde(default, deserialize_with = "crate::lenient::whole")]
    pub after: Option<u64>,
    /// Maximum number of messages, 1 to 100.
    #[serde(default, deserialize_with = "crate::lenient::whole")]
    pub limit: Option<u32>,
    /// As in [`Join`].
    #[serde(default)]
    pub offset: Option<String>,
}

/// Idempotency key of a message, chosen by its sender: 1 to 64 characters without NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientId(String);

impl ClientId {
    /// Maximum length in characters.
    pub const MAX: usize = 64;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClientId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if (1..=Self::MAX).contains(&text.chars().count()) && !text.contains('\0') {
            Ok(Self(text))
        } else {
            Err(format!("a clientId has 1 to {} characters", Self::MAX))
        }
    }
}

impl From<ClientId> for String {
    fn from(id: ClientId) -> String {
        id.0
    }
}

/// A page of history, newest message first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Newest first.
    pub messages: Vec<Message>,
    /// Value of `before` for the next page; null on the last page.
    pub next: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_requires_text_only() {
        let post: Post = serde_json::from_str(r#"{"text":"hi","userId":"eve","extra":[1]}"#).unwrap();
        assert_eq!(post, Post { text: "hi".into(), room: RoomName::lobby(), client_id: None });
        for bad in [r#"{}"#, r#"{"text":1}"#, r#"{"text":"a","room":"no room"}"#, r#""text""#, "null"] {
            assert!(serde_json::from_str::<Post>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_client_id_has_1_to_64_characters() {
        assert!(ClientId::try_from("é".repeat(64)).is_ok());
        for bad in [String::new(), "x".repeat(65), "a\0b".into()] {
            assert!(ClientId::try_from(bad).is_err());
        }
    }

    #[test]
    fn a_message_serializes_with_room_and_seq() {
        let message = Message {
            id: "m1".into(),
            room: RoomName::lobby(),
            seq: 7,
            from: "alice".parse().unwrap(),
            data: Body { text: "hi".into() },
            timestamp: Timestamp(0),
        };
        let json = serde_json::to_string(&message).unwrap();
        let want = r#"{"id":"m1","room":"lobby","seq":7,"from":"alice","data":{"text":"hi"},"timestamp":"1970-01-01T00:00:00.000Z"}"#;
        assert_eq!(json, want);
    }
}
