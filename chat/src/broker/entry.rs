//! Entries of the broker's queue, in the order in which they reach the sockets.

use proto::{RoomName, Username, event::Message};
use socketio::SocketId;
use tokio::sync::mpsc;

use crate::directory::RoomChange;

/// An entry of the broker's queue: an event for clients, a change of subscriptions, or a control entry.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A message was stored.
    Message {
        /// The offset of the message. `None` when the stream is unavailable and the message was read from history.
        offset: Option<u64>,
        /// The message.
        message: Message,
        /// The socket that sent it. It is skipped, because it gets an ack. `None` over HTTP.
        origin: Option<SocketId>,
    },
    /// A room changed.
    Change {
        /// The offset of the change. `None` when the stream is unavailable and the change was read from the store.
        offset: Option<u64>,
        /// Whether no more changes follow that have the same offset. A client recovers from the offset only then: it would miss the others.
        is_last: bool,
        /// The change.
        change: Box<RoomChange>,
    },
    /// The set of online users changed, or is available again.
    Online {
        /// The change. `None` when only the list is sent.
        diff: Option<proto::event::PresenceDiff>,
        /// All online users. `None` when they are too many for a list, or no list is due.
        list: Option<Vec<String>>,
    },
    /// The online users are unknown: the presence service does not answer.
    OnlineUnknown,
    /// The typing users of a room changed.
    Typing {
        /// The room.
        room: RoomName,
        /// All users that are typing now.
        users: Vec<String>,
    },
    /// Subscribes the sockets of a user to a room or unsubscribes them, without an event to clients: these were notified before.
    SetMembership {
        /// The room.
        room: RoomName,
        /// The user.
        user: Username,
        /// Whether the user is a member.
        is_member: bool,
    },
    /// Subscribes the sockets of these users to a room and unsubscribes all others, without an event to clients.
    SetMembers {
        /// The room.
        room: RoomName,
        /// All members.
        members: Vec<Username>,
    },
    /// The client of this socket reconnected on another connection.
    Superseded(SocketId),
    /// The stream was read up to this offset.
    Reached(u64),
    /// The sender is dropped when all entries before this one have reached the workers.
    Flushed(mpsc::Sender<()>),
}
