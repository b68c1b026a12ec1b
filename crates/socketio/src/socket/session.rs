//! A socket with connection state recovery: numbers the events that are sent to it alone, and reports what its
//! client has received when it leaves. The log is a [`SocketLog`], which `recovery` and `io` implement.
//!
//! Broadcasts are numbered when they are published, and every worker applies them in this order. An event to
//! one socket is sent at once, between two broadcasts. So each client receives its events in the order of their
//! positions, and an offset covers everything before it.

use std::cell::Cell;

use serde::Serialize;

use super::{ReadPosition, Socket, SocketId};
use crate::{Encoded, Room, close::CloseReason};

/// A position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// The number of the broadcast, or of the last one that the socket's worker has applied before an event to
    /// one socket.
    pub(crate) broadcast: u64,
    /// The number of the event to one socket. 0 for a broadcast.
    pub(crate) direct: u64,
}

impl Position {
    /// The position of a broadcast.
    pub(crate) fn broadcast(number: u64) -> Self {
        Self { broadcast: number, direct: 0 }
    }
}

/// The state of a socket whose client disconnects.
#[derive(Debug, Clone)]
pub(crate) struct Leaving {
    /// The rooms without the room of the socket's id.
    pub(crate) rooms: Vec<Room>,
    /// The position of the last event that was sent to the client.
    pub(crate) sent: Position,
    /// The position up to which the socket was sent all its events.
    pub(crate) through: Position,
    /// How far the client has read.
    pub(crate) read: ReadPosition<Position>,
}

/// The log as a socket uses it.
pub(crate) trait SocketLog {
    /// Adds the offset to an event to the socket `sid` and stores it. `applied` is the number of the last
    /// broadcast before it. `None` if the packet has no offset.
    fn direct(&self, sid: &SocketId, packet: &Encoded, applied: u64) -> Option<(Encoded, Position)>;

    /// Sends an event to the client of the session `pid` whose socket has left, on its present socket or when it
    /// recovers the session.
    fn late(&self, pid: &str, namespace: &str, sid: &SocketId, packet: &Encoded);

    /// The position after all events of a socket whose worker has applied the broadcasts up to `applied`.
    fn position(&self, applied: u64) -> Position;

    /// The client of the session `pid` has left. `None`: it cannot recover the session.
    fn leave(&self, pid: &str, leaving: Option<Leaving>);

    /// Drops what is too old.
    fn expire(&self);
}

/// The recoverable session of a socket.
pub(crate) struct SocketSession {
    /// The private id.
    pid: String,
    /// The number of the last broadcast that the client does not receive live: before its session began, or
    /// among the missed events.
    reached: u64,
    /// The position of the last missed event or of the last event that was sent to the client alone. Before
    /// these the position at which the session began.
    sent: Cell<Position>,
    is_recovered: Cell<bool>,
}

impl SocketSession {
    /// See the fields.
    pub(crate) fn new(pid: &str, reached: u64, sent: Position) -> Self {
        Self { pid: pid.to_owned(), reached, sent: Cell::new(sent), is_recovered: Cell::new(false) }
    }
}

impl Socket {
    /// Whether the client has recovered an earlier session with [`crate::Config::recovery`]. Then the socket
    /// has the id and the rooms of that session when [`crate::App::connect`] is called.
    pub fn recovered(&self) -> bool {
        self.0.session.get().is_some_and(|session| session.is_recovered.get())
    }

    /// Sends an event. With [`crate::Config::recovery`] it is stored, and a client that is disconnected
    /// receives it when it has recovered its session.
    pub fn emit(&self, event: &Encoded) {
        let recovery = self.0.local.log().zip(self.0.session.get());
        match recovery {
            Some((log, session)) if event.position().is_none() && self.0.key.get().is_some() => {
                let applied = self.0.local.applied().max(session.reached);
                match log.direct(&self.id(), event, applied) {
                    Some((numbered, position)) => {
                        session.sent.set(position);
                        self.send(&numbered);
                        self.record_position(None);
                    }
                    None => self.send(event),
                }
            }
            // The client may have recovered its session on another socket, or may do so later.
            Some((log, session)) if event.position().is_none() => {
                log.late(&session.pid, self.namespace(), &self.id(), event);
            }
            _ => self.send(event),
        }
    }

    /// Sends an event with these arguments. `args` must serialise to an array (a tuple does). Otherwise the error
    /// is logged and no event is sent. An event for several sockets is encoded once with [`Encoded::event`].
    pub fn emit_event(&self, name: &str, args: &impl Serialize) {
        match Encoded::event(self.namespace(), name, args, None) {
            Ok(event) => self.emit(&event),
            Err(error) => tracing::error!(%error, name, "event not sent"),
        }
    }

    /// The session that the log finds by `session.pid`.
    pub(crate) fn set_session(&self, session: SocketSession, is_recovered: bool) {
        session.is_recovered.set(is_recovered);
        let _ = self.0.session.set(Box::new(session));
    }

    /// The client has left. Its session is kept if the reason is recoverable.
    pub(crate) fn leave_session(&self, reason: CloseReason) {
        let Some((log, session)) = self.0.local.log().zip(self.0.session.get()) else { return };
        if !reason.is_recoverable() {
            return log.leave(&session.pid, None);
        }
        let own = self.id().room();
        let rooms = self.rooms().into_iter().filter(|room| *room != own).collect();
        let last = self.0.last_position.get().filter(|last| *last > session.reached);
        let sent = session.sent.get().max(last.map_or(Position::default(), Position::broadcast));
        let is_read = self.0.connection.client_closed_after(self.0.last_position_push.get());
        let read = if is_read { ReadPosition::At(sent) } else { ReadPosition::Unknown };
        let through = log.position(self.0.local.applied().max(session.reached));
        log.leave(&session.pid, Some(Leaving { rooms, sent, through, read }));
    }
}
