//! Records of the stream, as nodes write and read them.

use proto::{
    RoomName, Timestamp, Username,
    event::{Body, Message},
};
use serde::{Deserialize, Serialize};

use crate::{
    directory::{ChangeKind, RoomChange},
    history::StoredMessage,
};

/// A record of the stream: JSON with the field `is`, which names the variant in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum StreamRecord {
    /// A message was stored.
    #[serde(rename = "said")]
    Message(MessageRecord),
    /// A user became a member of a room.
    Joined {
        /// The room.
        room: RoomName,
        /// The new member.
        user: Username,
        /// The number of the change.
        rev: u64,
    },
    /// The membership of a user ended.
    Left {
        /// The room.
        room: RoomName,
        /// The former member.
        user: Username,
        /// The number of the change.
        rev: u64,
    },
    /// A room was archived.
    Archived {
        /// The room.
        room: RoomName,
        /// The members at that time.
        members: Vec<Username>,
        /// The number of the change.
        rev: u64,
    },
    /// A room changed in another way.
    Changed {
        /// The room.
        room: RoomName,
        /// The number of the change.
        rev: u64,
    },
    /// The client of this socket reconnected to the node that writes the record.
    Superseded {
        /// The socket's id.
        socket: String,
    },
}

/// The record of a message.
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
    /// Whether the message may have had a record before, in a part of the stream that is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

impl MessageRecord {
    /// The record of a stored message.
    pub fn new(stored: StoredMessage, again: bool) -> Self {
        let StoredMessage { message, origin } = stored;
        let Message { id, room, seq, from, data: Body { text }, timestamp: Timestamp(at) } = message;
        Self { id, room, seq, from, text, at, origin, again }
    }

    /// The room.
    pub fn room(&self) -> &RoomName {
        &self.room
    }

    /// The number of the message in its room.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The message, for delivery.
    pub fn into_stored(self) -> StoredMessage {
        let Self { id, room, seq, from, text, at, origin, again: _ } = self;
        let message = Message { id, room, seq, from, data: Body { text }, timestamp: Timestamp(at) };
        StoredMessage { message, origin }
    }
}

impl StreamRecord {
    /// The room that the record changes. `None` for a message and for a socket.
    pub fn room(&self) -> Option<&RoomName> {
        match self {
            Self::Joined { room, .. }
            | Self::Left { room, .. }
            | Self::Archived { room, .. }
            | Self::Changed { room, .. } => Some(room),
            Self::Message(_) | Self::Superseded { .. } => None,
        }
    }

    /// The record of a change.
    pub fn of_change(change: &RoomChange) -> Self {
        let (room, rev) = (change.room.clone(), change.rev);
        match &change.what {
            ChangeKind::Joined(user) => Self::Joined { room, user: user.clone(), rev },
            ChangeKind::Left(user) => Self::Left { room, user: user.clone(), rev },
            ChangeKind::Archived => Self::Archived { room, members: change.members.clone(), rev },
            ChangeKind::Other => Self::Changed { room, rev },
        }
    }

    /// The number of the change. `None` for other records.
    pub fn rev(&self) -> Option<u64> {
        match self {
            Self::Joined { rev, .. }
            | Self::Left { rev, .. }
            | Self::Archived { rev, .. }
            | Self::Changed { rev, .. } => Some(*rev),
            Self::Message(_) | Self::Superseded { .. } => None,
        }
    }

    /// The JSON of the record.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("names, numbers and texts are JSON")
    }

    /// Parses a record. `None` when it cannot be parsed, which is logged.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let record = serde_json::from_slice::<Self>(text);
        record.inspect_err(|error| tracing::warn!(%error, "a record of the stream cannot be read")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(origin: Option<&str>) -> StoredMessage {
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
    fn encoded_records_are_decoded() {
        let (room, user): (RoomName, Username) = ("tea".parse().unwrap(), "Bob".parse().unwrap());
        let records = [
            StreamRecord::Message(MessageRecord::new(stored(None), false)),
            StreamRecord::Message(MessageRecord::new(stored(Some("socket")), true)),
            StreamRecord::Joined { room: room.clone(), user: user.clone(), rev: 1 },
            StreamRecord::Left { room: room.clone(), user: user.clone(), rev: 2 },
            StreamRecord::Archived { room: room.clone(), members: vec![user], rev: 3 },
            StreamRecord::Changed { room, rev: 4 },
            StreamRecord::Superseded { socket: "s".into() },
        ];
        for record in records {
            assert_eq!(StreamRecord::decode(record.encode().as_bytes()), Some(record));
        }
        assert_eq!(MessageRecord::new(stored(Some("socket")), false).into_stored(), stored(Some("socket")));
    }
}
