//! Messages of the roster actor. The gRPC service sends them.

use actix::prelude::*;
use proto::{RoomName, Username, presence::RosterUpdate};
use tokio::sync::mpsc;

use crate::{
    Error,
    roster::{Connections, Lease, Node},
};

/// A node opens a stream with a full snapshot.
#[derive(Debug, Message)]
#[rtype(result = "Result<Opened, Error>")]
pub(crate) struct Open {
    /// The reporting node.
    pub node: Node,
    /// Connections of all users on the node.
    pub users: Connections,
    /// The id of the database that the node uses. `None` for a node of an older release.
    pub database: Option<String>,
}

/// Response to [`Open`].
#[derive(Debug)]
pub(crate) struct Opened {
    /// The stream's lease. It identifies the stream in later messages.
    pub lease: Lease,
    /// The whole roster. It is sent before `updates`.
    pub first: Vec<RosterUpdate>,
    /// Later changes. The channel closes when the stream must end.
    pub updates: mpsc::Receiver<RosterUpdate>,
}

/// A report of an open stream. [`Error::Stale`] ends the stream.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub(crate) struct Reported {
    /// The stream's lease.
    pub lease: Lease,
    /// The report.
    pub report: Report,
}

/// A report after the first snapshot.
#[derive(Debug)]
pub(crate) enum Report {
    /// A new full snapshot.
    Snapshot(Connections),
    /// The new total number of a user's connections on the node.
    Connections(Username, u32),
    /// Renews the lease.
    Heartbeat,
    /// A user types in a room, or has stopped.
    Typing {
        /// The user.
        user: Username,
        /// The room.
        room: RoomName,
        /// Started or stopped.
        is_typing: bool,
    },
}

/// The stream with this lease has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ended(pub Lease);

/// A change from a unary call.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub(crate) enum Call {
    /// The user has one more connection.
    Connected(Username),
    /// The user has one connection fewer.
    Disconnected(Username),
    /// A user types in a room, or has stopped.
    Typing {
        /// The user.
        user: Username,
        /// The room.
        room: RoomName,
        /// Started or stopped.
        is_typing: bool,
    },
}

/// Returns all users online, sorted.
#[derive(Debug, Message)]
#[rtype(result = "Vec<String>")]
pub(crate) struct GetOnline;

/// Returns all users that type in any room, sorted.
#[derive(Debug, Message)]
#[rtype(result = "Vec<String>")]
pub(crate) struct GetTyping;

/// Ends all streams. Later [`Open`] messages are refused.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

/// Liveness check of the actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ping;
