//! What the log tells: everything that reaches the sockets, in order.

use proto::{RoomName, Username, event::Message};
use socketio::SocketId;
use tokio::sync::mpsc;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A message was stored.
    Message {
        /// Its place in the log; none while the log itself is away and history told of the message.
        offset: Option<u64>,
        /// The message.
        message: Message,
        /// The socket it came from, which knows it from its ack; none over HTTP.
        origin: Option<SocketId>,
    },
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
    /// A room was archived: all its members have left.
    Archived {
        /// The room.
        room: RoomName,
        /// Who was in it.
        members: Vec<Username>,
    },
    /// Who is online changed, or a first list came.
    Online {
        /// The change; none for a list that is news as a whole.
        diff: Option<proto::event::PresenceDiff>,
        /// Everybody online, when they are few enough to be told.
        list: Option<Vec<String>>,
    },
    /// Nobody knows who is online: the presence service does not answer.
    OnlineUnknown,
    /// Who types in a room.
    Typing {
        /// The room.
        room: RoomName,
        /// Everybody typing now.
        users: Vec<String>,
    },
    /// Somebody is or is not in a room any more, and everybody has been told.
    Seated {
        /// The room.
        room: RoomName,
        /// Who.
        user: Username,
        /// Whether they are.
        is_in: bool,
    },
    /// These are all members of a room, whatever its sockets were told.
    Only {
        /// The room.
        room: RoomName,
        /// Who.
        members: Vec<Username>,
    },
    /// Something of a room is different that its members need not be told.
    Changed {
        /// The room.
        room: RoomName,
    },
    /// The client of this socket has come back on another connection.
    Superseded(SocketId),
    /// The log was read up to here.
    Reached(u64),
    /// Everything before this was handed over: then it is dropped.
    Flushed(mpsc::Sender<()>),
}
