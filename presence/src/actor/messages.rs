//! What the roster's actor understands. Sent by the gRPC service.

use actix::prelude::*;
use proto::{RoomName, Username, presence::RosterUpdate};
use tokio::sync::mpsc;

use crate::{
    Error,
    roster::{Connections, Lease, Node},
};

/// A node opens a stream with its whole truth.
#[derive(Debug, Message)]
#[rtype(result = "Result<Opened, Error>")]
pub(crate) struct Open {
    /// Who reports.
    pub node: Node,
    /// Its users.
    pub users: Connections,
}

/// A stream that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// By which the stream's reports are known.
    pub lease: Lease,
    /// The whole roster, to be told first.
    pub first: Vec<RosterUpdate>,
    /// What changes from then on; ends when the stream has to.
    pub updates: mpsc::Receiver<RosterUpdate>,
}

/// A node said something on its stream. [`Error::Stale`] ends the stream.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub(crate) struct Reported {
    /// The stream's lease.
    pub lease: Lease,
    /// What it said.
    pub report: Report,
}

/// What a node says after its first snapshot.
#[derive(Debug)]
pub(crate) enum Report {
    /// Its whole truth again.
    Everybody(Connections),
    /// A user's connections now.
    Connections(Username, u32),
    /// It is alive.
    Heartbeat,
    /// A user types in a room, or has stopped.
    Typing {
        /// Who.
        user: Username,
        /// Where.
        room: RoomName,
        /// Started or stopped.
        is_typing: bool,
    },
}

/// A node's stream has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ended(pub Lease);

/// A change told by one of the plain calls.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub(crate) enum Call {
    /// One connection more.
    Connected(Username),
    /// One connection fewer.
    Disconnected(Username),
    /// A user types in a room, or has stopped.
    Typing {
        /// Who.
        user: Username,
        /// Where.
        room: RoomName,
        /// Started or stopped.
        is_typing: bool,
    },
}

/// Everybody online, sorted.
#[derive(Debug, Message)]
#[rtype(result = "Vec<String>")]
pub(crate) struct GetOnline;

/// Everybody typing anywhere, sorted.
#[derive(Debug, Message)]
#[rtype(result = "Vec<String>")]
pub(crate) struct GetTyping;

/// Ends every stream and opens no other.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

/// Answered by a roster that works.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ping;
