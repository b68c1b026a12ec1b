//! The Socket.IO events of the chat: their names, once, and their payloads. Server to client first, then client to
//! server, then what an ack carries.

use serde::{Deserialize, Serialize};

use crate::{RoomName, Timestamp, Username};

/// Event names, the only place they are spelled.
pub mod name {
    /// Greeting, right after CONNECT.
    pub const WELCOME: &str = "welcome";
    /// A message, in both directions.
    pub const MESSAGE: &str = "message";
    /// Everybody online, while they are few.
    pub const PRESENCE: &str = "presence";
    /// Who came and who went.
    pub const PRESENCE_DIFF: &str = "presence:diff";
    /// Who types, in both directions.
    pub const TYPING: &str = "typing";
    /// Somebody became a member of a room.
    pub const ROOM_JOINED: &str = "room:joined";
    /// Somebody is no longer a member of a room.
    pub const ROOM_LEFT: &str = "room:left";
    /// Server to client: an event that wanted no ack was refused, or the connection is about to be cut.
    pub const ERROR: &str = "error";
    /// A client enters a room.
    pub const JOIN: &str = "join";
    /// A client leaves a room.
    pub const LEAVE: &str = "leave";
    /// A client asks for older messages.
    pub const HISTORY: &str = "history";
}

/// Payload of [`name::WELCOME`].
#[derive(Debug, Clone, Serialize)]
pub struct Welcome {
    /// A sentence for people.
    pub message: String,
    /// Who the server takes the client for.
    pub username: Username,
    /// When the connection was made.
    pub timestamp: Timestamp,
}

/// Payload of [`name::MESSAGE`] and an entry of every history answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Unique in the deployment, opaque.
    pub id: String,
    /// Where it was said.
    pub room: RoomName,
    /// Its place in the room: 1, 2, 3, ... without holes.
    pub seq: u64,
    /// Who said it.
    pub from: Username,
    /// What was said.
    pub data: Body,
    /// When it was stored; never before the timestamp of an earlier `seq`.
    pub timestamp: Timestamp,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Plain text, never markup.
    pub text: String,
}

/// Payload of [`name::PRESENCE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// Sorted.
    pub online: Vec<String>,
}

/// Payload of [`name::PRESENCE_DIFF`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PresenceDiff {
    /// Names that came online, sorted.
    pub joined: Vec<String>,
    /// Names that went offline, sorted.
    pub left: Vec<String>,
    /// How many are online now.
    pub count: u32,
}

/// Payload of [`name::TYPING`] from the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Typing {
    /// Everybody typing in the room, sorted.
    pub users: Vec<String>,
    /// The room.
    pub room: String,
}

/// Payload of [`name::ROOM_JOINED`] and [`name::ROOM_LEFT`].
#[derive(Debug, Clone, Serialize)]
pub struct Membership {
    /// The room.
    pub room: RoomName,
    /// Who came or went.
    pub username: Username,
}

/// A client's [`name::MESSAGE`]. Unknown fields are ignored: clients of the original sent more than text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Post {
    /// What to say.
    pub text: String,
    /// Where; the lobby when absent.
    #[serde(default = "RoomName::lobby", deserialize_with = "crate::lenient::or_lobby")]
    pub room: RoomName,
    /// The sender's own id for this message: the same one again answers with the first result.
    #[serde(default)]
    pub client_id: Option<ClientId>,
}

/// A client's [`name::TYPING`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetTyping {
    /// Whether the user types now.
    pub is_typing: bool,
    /// Where; the lobby when absent.
    #[serde(default = "RoomName::lobby", deserialize_with = "crate::lenient::or_lobby")]
    pub room: RoomName,
}

/// A client's [`name::JOIN`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Join {
    /// The room to enter.
    pub room: RoomName,
    /// The last `seq` the client has; the answer then carries what came after it.
    #[serde(default, deserialize_with = "crate::lenient::whole")]
    pub since: Option<u64>,
    /// The offset that the client got with that `seq` or before, or an empty text; the answer then carries one.
    #[serde(default)]
    pub offset: Option<String>,
}

/// A client's [`name::LEAVE`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Leave {
    /// The room to leave.
    pub room: RoomName,
}

/// A client's [`name::HISTORY`], and the query of `GET /rooms/{room}/messages` beside its path.
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
    /// How many at most, 1 to 100.
    #[serde(default, deserialize_with = "crate::lenient::whole")]
    pub limit: Option<u32>,
    /// As in [`Join`].
    #[serde(default)]
    pub offset: Option<String>,
}

/// The sender's own id of a message: 1 to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientId(String);

impl ClientId {
    /// The longest id, in characters.
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

/// Why an event was refused, as the `code` of a refused ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The event is not what it should be.
    BadRequest,
    /// Nobody is logged in behind this socket any more.
    Unauthorized,
    /// The user may not do this.
    Forbidden,
    /// There is no such thing, or none the user may know of.
    NotFound,
    /// It contradicts something that already is.
    Conflict,
    /// Over a size limit.
    TooLarge,
    /// Over a rate limit; `retryAfter` says for how long.
    RateLimited,
    /// Not now: a part that is needed does not answer.
    Unavailable,
}

impl Code {
    /// The HTTP status that says the same.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Unavailable => 503,
        }
    }
}

/// The ack of a stored message: `{ok:true, id, seq}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Posted {
    /// Always true.
    pub ok: bool,
    /// The message's id.
    pub id: String,
    /// The message's place in its room.
    pub seq: u64,
}

/// The ack of a join: `{ok:true, head, messages}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// Always true.
    pub ok: bool,
    /// The room's last `seq`; 0 when nothing was said yet.
    pub head: u64,
    /// What came after `since`, oldest first; empty without `since`.
    pub messages: Vec<Message>,
}

/// A page of history: newest first, and `next` is the next page's `before` (null on the last page).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Newest first.
    pub messages: Vec<Message>,
    /// The next page's `before`.
    pub next: Option<u64>,
}

/// A refused ack: `{ok:false, code, message, retryAfter?}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Always false.
    pub ok: bool,
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub message: String,
    /// Seconds to wait before trying again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
}

impl Refused {
    /// A refusal without a time to wait.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { ok: false, code, message: message.into(), retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_needs_text_and_nothing_else() {
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
    fn a_refusal_shows_its_code_in_snake_case_and_no_empty_retry() {
        let json = serde_json::to_string(&Refused::new(Code::TooLarge, "text is over 8192 bytes")).unwrap();
        assert_eq!(json, r#"{"ok":false,"code":"too_large","message":"text is over 8192 bytes"}"#);
        let wait = Refused { retry_after: Some(0.5), ..Refused::new(Code::RateLimited, "slow down") };
        assert!(serde_json::to_string(&wait).unwrap().ends_with(r#""retryAfter":0.5}"#));
    }

    #[test]
    fn a_message_has_the_shape_of_the_original_and_its_place() {
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
