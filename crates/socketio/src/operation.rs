//! Operations on many sockets at once, as data. [`crate::Io`] sends them; each worker's shard applies them to
//! its sockets.

use std::sync::Arc;

use crate::{BackpressureToken, Encoded, Room, close::CloseReason, socket::SocketId};

/// One operation. A shard applies the operations of a batch in their order.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Sends an event to the sockets of some rooms.
    Emit(Emit),
    /// Every socket in `of` joins `room`.
    Join {
        /// The room whose sockets join.
        of: Room,
        /// The room that they join.
        room: Room,
    },
    /// Every socket in `of` leaves `room`.
    Leave {
        /// The room whose sockets leave.
        of: Room,
        /// The room that they leave.
        room: Room,
    },
    /// Closes the connection of every socket in `of` without a Socket.IO packet. Stock clients reconnect
    /// automatically.
    Close {
        /// The room whose sockets are closed.
        of: Room,
        /// The reason.
        reason: CloseReason,
    },
    /// Sends an event to the sockets of a target.
    Send {
        /// The sockets.
        to: Target,
        /// The event, encoded once for all sockets.
        packet: Encoded,
        /// Whether the event is dropped for clients that lag.
        volatile: bool,
    },
    /// Disconnects every socket in `of` from its namespace with a DISCONNECT packet (`41`). Stock clients do
    /// not reconnect automatically.
    Disconnect {
        /// The room whose sockets are disconnected.
        of: Room,
        /// With a reason: the client's other namespaces are disconnected too, and the connection is closed.
        /// `None`: the connection stays open.
        close: Option<CloseReason>,
    },
}

/// An event for the sockets of some rooms.
#[derive(Debug, Clone)]
pub struct Emit {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The rooms. A socket in several of them receives the event once. Empty means the whole namespace.
    pub rooms: Vec<Room>,
    /// A socket that does not receive the event.
    pub except: Option<SocketId>,
    /// The event, encoded once for all sockets.
    pub packet: Encoded,
    /// Whether the event is dropped for clients that lag.
    pub volatile: bool,
    /// The sender that waits for clients that lag because of this event. With `None` the whole batch waits
    /// for them.
    pub backpressure: Option<BackpressureToken>,
}

/// A set of sockets of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The sockets in any of these rooms, each once. Empty means the whole namespace.
    pub rooms: Vec<Room>,
    /// Sockets in any of these rooms are excluded. A socket's id names a room that contains only this socket.
    pub except: Vec<Room>,
    /// If present: only sockets that are also in this room.
    pub within: Option<Room>,
}

/// A socket as [`crate::Io::fetch`] returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketInfo {
    /// Its id.
    pub id: SocketId,
    /// The rooms it is in, sorted, including the room of its own id.
    pub rooms: Vec<Room>,
}

impl Target {
    /// Every socket of `namespace`.
    pub fn all(namespace: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), rooms: Vec::new(), except: Vec::new(), within: None }
    }

    /// The sockets of `namespace` in `room`.
    pub fn room(namespace: impl Into<Arc<str>>, room: Room) -> Self {
        Self { rooms: vec![room], ..Self::all(namespace) }
    }

    /// The same target without the sockets in `room`.
    pub fn except(mut self, room: Room) -> Self {
        self.except.push(room);
        self
    }
}
