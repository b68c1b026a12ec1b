//! What the broker's queue holds: events of rooms, signals and control entries. They reach the sockets in the order of the queue.

use proto::{
    RoomName, Username,
    event::{Message, PresenceDiff},
};
use socketio::SocketId;
use tokio::sync::mpsc;

use crate::directory::RoomChange;

/// An entry of the broker's queue.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A durable event of a room.
    Event(RoomEvent),
    /// A volatile event. A later one of the same kind replaces it.
    Signal(Signal),
    /// A change of the state of sockets or of the queue, without an event for clients.
    Control(Control),
}

/// A durable event of a room. A store has committed it. It has one place in the log, from which clients recover.
#[derive(Debug, Clone)]
pub struct RoomEvent {
    /// The offset in the log. `None` when the log is unavailable and the event was read from its store.
    pub offset: Option<u64>,
    /// Whether a client that has received this event may recover from its offset. `false` when other events have the same offset and follow,
    /// or when this node has delivered an event from the store whose record may have a greater offset: the client would miss the former
    /// and receive the latter twice.
    pub is_resumable: bool,
    /// What happened.
    pub kind: RoomEventKind,
}

/// What happened in a room.
#[derive(Debug, Clone)]
pub enum RoomEventKind {
    /// A message was posted.
    Message {
        /// The message.
        message: Message,
        /// The socket that sent it. It is skipped, because it gets an ack. `None` over HTTP.
        origin: Option<SocketId>,
    },
    /// Members, settings or other parts of the room changed.
    Change(Box<RoomChange>),
}

/// A volatile event.
#[derive(Debug, Clone)]
pub enum Signal {
    /// The set of online users changed, or is available again.
    Online {
        /// The change. `None` when only the list is sent.
        diff: Option<PresenceDiff>,
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
}

/// A control entry.
#[derive(Debug, Clone)]
pub enum Control {
    /// Subscribes the sockets of a user to a room or unsubscribes them.
    SetMembership {
        /// The room.
        room: RoomName,
        /// The user.
        user: Username,
        /// Whether the user is a member.
        is_member: bool,
    },
    /// Subscribes the sockets of these users to a room and unsubscribes all others.
    SetMembers {
        /// The room.
        room: RoomName,
        /// All members.
        members: Vec<Username>,
    },
    /// Closes this socket, because its client has reconnected.
    Superseded(SocketId),
    /// The log was read up to this offset.
    Reached(u64),
    /// The sender is dropped when all entries before this one have reached the workers.
    Flushed(mpsc::Sender<()>),
}

impl RoomEvent {
    /// The event of a message.
    pub fn message(message: Message, origin: Option<SocketId>, offset: Option<u64>) -> Self {
        Self { offset, is_resumable: true, kind: RoomEventKind::Message { message, origin } }
    }

    /// The event of a change.
    pub fn change(change: RoomChange, offset: Option<u64>) -> Self {
        Self { offset, is_resumable: true, kind: RoomEventKind::Change(Box::new(change)) }
    }

    /// The same event, from whose offset clients recover only if `is_resumable`.
    pub fn resumable(self, is_resumable: bool) -> Self {
        Self { is_resumable, ..self }
    }
}

impl Entry {
    /// The room that this entry may subscribe sockets of this node to.
    pub(super) fn subscribes_to(&self) -> Option<&RoomName> {
        match self {
            Self::Event(RoomEvent { kind: RoomEventKind::Change(change), .. }) => {
                change.begins_membership().then_some(&change.room)
            }
            Self::Control(
                Control::SetMembership { room, is_member: true, .. } | Control::SetMembers { room, .. },
            ) => Some(room),
            _ => None,
        }
    }

    /// Whether this entry is a change of a room, which may change memberships, or sets all members of a room.
    pub(super) fn changes_memberships(&self) -> bool {
        matches!(
            self,
            Self::Event(RoomEvent { kind: RoomEventKind::Change(_), .. })
                | Self::Control(Control::SetMembers { .. })
        )
    }
}

impl From<RoomEvent> for Entry {
    fn from(event: RoomEvent) -> Self {
        Self::Event(event)
    }
}

impl From<Signal> for Entry {
    fn from(signal: Signal) -> Self {
        Self::Signal(signal)
    }
}

impl From<Control> for Entry {
    fn from(control: Control) -> Self {
        Self::Control(control)
    }
}
