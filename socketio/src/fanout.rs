//! What an application has done to many sockets at once, as data. Sent over the [`crate::Bus`], done by each worker's shard.

use std::sync::Arc;

use crate::{Encoded, Room, close::CloseReason, socket::SocketId};

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
}
