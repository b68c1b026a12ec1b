//! What an application has done to many sockets at once, as data. Sent over the [`crate::Bus`], done by each worker's shard.

use std::sync::Arc;

use crate::{Encoded, Pacer, Room, close::CloseReason, socket::SocketId};

/// What a shard does with its sockets, in the order sent.
#[derive(Debug, Clone)]
pub enum Fanout {
    /// Send an event.
    Emit(Broadcast),
    /// Every socket in `of` enters `room`.
    Join {
        /// Whom.
        of: Room,
        /// Where to.
        room: Room,
    },
    /// Every socket in `of` leaves `room`.
    Leave {
        /// Whom.
        of: Room,
        /// Where from.
        room: Room,
    },
    /// The connection of every socket in `of` ends, without a word in Socket.IO: stock clients come back by themselves.
    Close {
        /// Whom.
        of: Room,
        /// Why.
        reason: CloseReason,
    },
    /// Send an event to a selection of sockets.
    Send {
        /// Whom.
        to: Selection,
        /// The event, encoded once for all.
        packet: Encoded,
        /// Whether clients that are behind may miss it.
        volatile: bool,
    },
    /// Every socket in `of` is put out of its namespace (packet `41`); its connection lives on.
    Dismiss {
        /// Whom.
        of: Room,
    },
    /// Every socket in `of` is put out (packet `41`), and its connection ends.
    Disconnect {
        /// Whom.
        of: Room,
        /// Why.
        reason: CloseReason,
    },
}

/// An event for the sockets of some rooms.
#[derive(Debug, Clone)]
pub struct Broadcast {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The rooms; a socket in several of them gets the event once. Empty means the whole namespace.
    pub rooms: Vec<Room>,
    /// The one socket that does not get it.
    pub except: Option<SocketId>,
    /// The event, encoded once for all.
    pub packet: Encoded,
    /// Whether clients that are behind may miss it.
    pub volatile: bool,
    /// Who waits for clients that fall behind with it. With none, the whole batch does.
    pub pacer: Option<Pacer>,
}

/// Some of the sockets of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The sockets in any of these rooms, each once; all of the namespace when empty.
    pub rooms: Vec<Room>,
    /// But none that is in any of these. (A socket's id is a room that only it is in.)
    pub except: Vec<Room>,
    /// And only those that are in this room too.
    pub within: Option<Room>,
}

/// A socket as [`crate::Bus::fetch`] finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: SocketId,
    /// The rooms it is in, sorted, with the one of its own id.
    pub rooms: Vec<Room>,
}

impl Selection {
    /// Every socket of `namespace`.
    pub fn all(namespace: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), rooms: Vec::new(), except: Vec::new(), within: None }
    }

    /// The sockets of `namespace` in `room`.
    pub fn room(namespace: impl Into<Arc<str>>, room: Room) -> Self {
        Self { rooms: vec![room], ..Self::all(namespace) }
    }

    /// The same without the sockets in `room`.
    pub fn except(mut self, room: Room) -> Self {
        self.except.push(room);
        self
    }
}
