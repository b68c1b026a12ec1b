//! An entry of the log as it is written for other nodes. What cannot be read is another version's or nobody's: it is counted
//! and left out.

use proto::{
    RoomName, Timestamp, Username,
    event::{Body, Message},
};
use serde::{Deserialize, Serialize};

use crate::{changes::What, history::StoredMessage};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum StreamRecord {
    /// A message was stored.
    MessageRecord(MessageRecord),
    /// Somebody became a member of a room.
    Joined {
        /// The room.
        room: RoomName,
        /// Who.
        user: Username,
    },
    /// Somebody is no longer a member of a room.
    Left {
        /// The room.
        room: RoomName,
        /// Who.
        user: Username,
    },
    /// A room was archived.
    Archived {
        /// The room.
        room: RoomName,
        /// Who was in it.
        members: Vec<Username>,
    },
    /// Something of a room is different that its members need not be told.
    Changed {
        /// The room.
        room: RoomName,
    },
    /// The client of this socket has come back on the node that writes this.
    Superseded {
        /// The socket's id.
        socket: String,
    },
}

/// A message and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRecord {
    id: String,
    room: RoomName,
    seq: u64,
    from: Username,
    text: String,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// Whether it may have been in the log before, which has since been lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

impl MessageRecord {
    /// As it is written.
    pub fn new(kept: StoredMessage, again: bool) -> Self {
        let StoredMessage { message, origin } = kept;
        let Message { id, room, seq, from, data: Body { text }, timestamp: Timestamp(at) } = message;
        Self { id, room, seq, from, text, at, origin, again }
    }

    /// Where.
    pub fn room(&self) -> &RoomName {
        &self.room
    }

    /// Its place in the room.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As it is told.
    pub fn into_kept(self) -> StoredMessage {
        let Self { id, room, seq, from, text, at, origin, again: _ } = self;
        let message = Message { id, room, seq, from, data: Body { text }, timestamp: Timestamp(at) };
        StoredMessage { message, origin }
    }
}

impl StreamRecord {
    /// The room that it changes; none for a message, which is no change, and for a socket.
    pub fn room(&self) -> Option<&RoomName> {
        match self {
            Self::Joined { room, .. }
            | Self::Left { room, .. }
            | Self::Archived { room, .. }
            | Self::Changed { room } => Some(room),
            Self::MessageRecord(_) | Self::Superseded { .. } => None,
        }
    }

    /// Whether it is the entry of such a change.
    pub fn is_about(&self, what: &What) -> bool {
        match (self, what) {
            (Self::Joined { user, .. }, What::Joined(other) | What::Renewed(other))
            | (Self::Left { user, .. }, What::Left(other)) => user.key() == other.key(),
            (Self::Archived { .. }, What::Archived) | (Self::Changed { .. }, What::Other) => true,
            _ => false,
        }
    }

    /// The text of it.
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("names, numbers and texts are JSON")
    }

    /// What a text says, if it is one of ours.
    pub fn read(text: &[u8]) -> Option<Self> {
        let line = serde_json::from_slice(text);
        if let Err(error) = &line {
            metrics::counter!("godzilla_chat_log_unreadable_total").increment(1);
            tracing::warn!(%error, "an entry of the log cannot be read");
        }
        line.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(origin: Option<&str>) -> StoredMessage {
        let message = Message {
            id: "m".into(),
            room: "tea".parse().unwrap(),
            seq: 3,
            from: "alice".parse().unwrap(),
            data: Body { text: "one \"lump\"?\u{1e}".into() },
            timestamp: Timestamp(7),
        };
        StoredMessage { message, origin: origin.map(str::to_owned) }
    }

    #[test]
    fn what_is_written_is_read() {
        let (room, user): (RoomName, Username) = ("tea".parse().unwrap(), "Bob".parse().unwrap());
        let lines = [
            StreamRecord::MessageRecord(MessageRecord::new(kept(None), false)),
            StreamRecord::MessageRecord(MessageRecord::new(kept(Some("socket")), true)),
            StreamRecord::Joined { room: room.clone(), user: user.clone() },
            StreamRecord::Left { room: room.clone(), user: user.clone() },
            StreamRecord::Archived { room: room.clone(), members: vec![user] },
            StreamRecord::Changed { room },
            StreamRecord::Superseded { socket: "s".into() },
        ];
        for line in lines {
            assert_eq!(StreamRecord::read(line.write().as_bytes()), Some(line));
        }
        assert_eq!(MessageRecord::new(kept(Some("socket")), false).into_kept(), kept(Some("socket")));
    }

    #[test]
    fn garbage_is_left_out() {
        let bad: [&[u8]; 6] = [
            b"",
            b"\x80\x04pickle",
            b"{}",
            br#"{"is":"changed","room":"../../etc"}"#,
            br#"{"is":"left","room":"tea","user":{"$gt":""}}"#,
            br#"{"is":"said","room":"tea"}"#,
        ];
        for text in bad {
            assert_eq!(StreamRecord::read(text), None, "{:?}", String::from_utf8_lossy(text));
        }
    }
}
