//! One client in one namespace, as the application uses it: emit, join and leave rooms, close. Cheap to
//! clone; stays on its worker.

mod closing;
mod emit_with_ack;
mod id;
mod local;
mod read_position;
mod reply;
mod room_table;
mod session;

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;

pub use id::SocketId;
pub(crate) use local::LocalSockets;
pub use read_position::ReadPosition;
pub use reply::Reply;
pub(crate) use session::{Leaving, Position, SocketLog, SocketSession};

use crate::{
    Config, Encoded, Room,
    ack::Response,
    close::CloseReason,
    connection::{Connection, send_queue::SendQueue},
    packet,
    request::RequestHead,
};

/// The state of a recovered session, besides the socket id ([`Socket::adopt`]).
pub struct Recovered {
    /// The events that the client has missed, in order. They are sent first. Events to the socket's rooms
    /// that are emitted while the application reads them are held back until then.
    pub missed: Vec<Encoded>,
    /// The position of the log's end when `missed` was read. Held-back events up to this [`Encoded::at`]
    /// position are dropped: they are among the missed ones, or not for this client.
    pub reached: u64,
}

/// A handle of one socket.
#[derive(Clone)]
pub struct Socket(Rc<Inner>);

struct Inner {
    id: RefCell<SocketId>,
    namespace: Rc<str>,
    connection: Rc<Connection>,
    local: Rc<LocalSockets>,
    /// The key in the namespace's table. `None` once the socket has left the namespace.
    key: Cell<Option<usize>>,
    /// The rooms at the time the socket left the namespace.
    last_rooms: RefCell<Vec<Room>>,
    /// Packets that were sent before the CONNECT was answered. `None` once it was.
    held: RefCell<Option<Vec<Encoded>>>,
    max_held: usize,
    max_payload: usize,
    /// Events up to this log position are dropped: the client has them already.
    skip_through: Cell<Option<u64>>,
    /// The log position of the last event that was sent to the client.
    last_position: Cell<Option<u64>>,
    /// The connection's push count after that event.
    last_position_push: Cell<u64>,
    pending_acks: RefCell<HashMap<u64, oneshot::Sender<Response>>>,
    max_pending_acks: usize,
    next_ack: Cell<u64>,
    unsent_acks: Cell<usize>,
    /// The session that the client can recover with [`Config::recovery`].
    session: OnceCell<Box<SocketSession>>,
}

impl Socket {
    /// A socket that is not open. Packets are held back until [`Socket::open`].
    pub(crate) fn new(
        id: SocketId,
        namespace: &str,
        connection: Rc<Connection>,
        local: Rc<LocalSockets>,
        config: &Config,
    ) -> Self {
        let inner = Inner {
            id: RefCell::new(id),
            namespace: namespace.into(),
            connection,
            local,
            key: Cell::new(None),
            last_rooms: RefCell::default(),
            held: RefCell::new(Some(Vec::new())),
            max_held: config.send_queue_frames,
            max_payload: config.max_payload,
            skip_through: Cell::new(None),
            last_position: Cell::new(None),
            last_position_push: Cell::new(0),
            pending_acks: RefCell::default(),
            max_pending_acks: config.max_pending_acks,
            next_ack: Cell::new(0),
            unsent_acks: Cell::new(0),
            session: OnceCell::new(),
        };
        let socket = Self(Rc::new(inner));
        socket.0.key.set(Some(socket.0.local.add(&socket)));
        socket.join(&socket.id().room());
        socket
    }

    /// The socket's id.
    pub fn id(&self) -> SocketId {
        self.0.id.borrow().clone()
    }

    /// Whether `id` is the socket's id.
    pub(crate) fn has_id(&self, id: &SocketId) -> bool {
        *self.0.id.borrow() == *id
    }

    /// Whether both are handles of the same socket.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// The name of the session's current transport.
    pub fn transport(&self) -> &'static str {
        self.0.connection.transport()
    }

    /// The head of the request that opened the session. `None` unless [`Config::request_heads`] is set.
    pub fn handshake(&self) -> Option<Arc<RequestHead>> {
        self.0.connection.handshake()
    }

    /// The head of the session's latest request. In [`crate::Peer::event`] it is the request with the event: the
    /// POST, or the WebSocket's upgrade. `None` unless [`Config::request_heads`] is set.
    pub fn request(&self) -> Option<Arc<RequestHead>> {
        self.0.connection.request()
    }

    /// Gives the socket the id of a recovered session. From then on it does not receive the events that a
    /// socket with this id emitted. Call it only while the application decides about the CONNECT, and after
    /// an earlier connection with this id was closed.
    pub fn adopt(&self, id: &SocketId) {
        self.leave(&self.id().room());
        self.0.id.replace(id.clone());
        self.join(&self.id().room());
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The largest message that the client may send, in bytes.
    pub fn max_payload(&self) -> usize {
        self.0.max_payload
    }

    /// Joins a room.
    pub fn join(&self, room: &Room) {
        if let Some(key) = self.0.key.get() {
            self.0.local.join(&self.0.namespace, key, room);
        }
    }

    /// Leaves a room.
    pub fn leave(&self, room: &Room) {
        if let Some(key) = self.0.key.get() {
            self.0.local.leave(&self.0.namespace, key, room);
        }
    }

    /// Whether the socket is in a room.
    pub fn is_in(&self, room: &Room) -> bool {
        self.0.key.get().is_some_and(|key| self.0.local.is_in(&self.0.namespace, key, room))
    }

    /// The rooms of the socket, or the rooms at the time it left the namespace. Sorted, with the room of its
    /// own id.
    pub fn rooms(&self) -> Vec<Room> {
        let Some(key) = self.0.key.get() else { return self.0.last_rooms.borrow().clone() };
        let mut rooms = self.0.local.rooms_of(&self.0.namespace, key);
        rooms.sort_unstable();
        rooms
    }

    /// Waits until the send queue is at most half full. Await it before every large ack: several large acks
    /// at once can exceed the queue of a client that reads.
    pub async fn caught_up(&self) {
        while self.0.key.get().is_some() && self.0.connection.send_queue.is_half_full() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The number of acks that the client has requested and the application has not sent.
    pub fn unsent_acks(&self) -> usize {
        self.0.unsent_acks.get()
    }

    /// Disconnects the client from the namespace with a DISCONNECT packet (`41`). Stock clients do not
    /// reconnect automatically. With a reason in `close`, the client is disconnected from all its namespaces
    /// and the connection is closed; with `None` the connection and its other namespaces stay open.
    pub fn disconnect(&self, close: Option<CloseReason>) {
        match close {
            Some(reason) => self.0.connection.end_namespaces(reason),
            None => {
                self.send(&Encoded::from_packet(&packet::disconnect_text(self.namespace())));
                self.0.connection.end_namespace(self.namespace());
            }
        }
    }

    /// Aborts the TCP connection of a WebSocket, as a network failure would: without a close frame.
    pub fn abort(&self) {
        self.0.connection.abort();
    }

    /// Closes the connection without a Socket.IO packet. Stock clients reconnect automatically.
    pub fn close(&self, reason: CloseReason) {
        self.0.connection.end(reason);
    }

    /// Sends a packet to this client only.
    pub(crate) fn send(&self, packet: &Encoded) {
        let _ = self.deliver(packet, false);
    }

    /// Queues a packet, or holds it back until the socket is open. Returns whether the client lags.
    pub(crate) fn deliver(&self, packet: &Encoded, volatile: bool) -> bool {
        if let Some(held) = self.0.held.borrow_mut().as_mut() {
            if held.len() >= self.0.max_held {
                self.0.connection.end(CloseReason::Slow);
            } else {
                held.push(packet.clone());
            }
            return false;
        }
        let is_received = packet.position().is_some() && packet.position() <= self.0.skip_through.get();
        if is_received || self.0.key.get().is_none() {
            return false;
        }
        let is_lagging = self.0.connection.push(packet.frames(), volatile, self.0.local.heartbeats.now());
        if packet.position().is_some() {
            self.record_position(packet.position());
        }
        is_lagging
    }

    /// The send queue of the client.
    pub(crate) fn send_queue(&self) -> Arc<SendQueue> {
        self.0.connection.send_queue.clone()
    }

    /// Opens the socket after the CONNECT answer. Order: the missed events in one buffer of any size, then
    /// what `connected` sends, then the held-back packets without received ones. Later packets are
    /// queued directly.
    pub(crate) fn open(&self, connected: impl FnOnce(), recovered: Option<Recovered>) {
        let held = self.0.held.take();
        let reached = recovered.as_ref().map(|recovered| recovered.reached);
        if let Some(missed) = recovered.and_then(|recovered| Encoded::joined(&recovered.missed)) {
            self.send(&missed);
        }
        connected();
        // Events that are still in flight from the log are stored already, and so among the missed ones.
        self.0.skip_through.set(reached);
        if reached.is_some() {
            self.record_position(reached);
        }
        held.into_iter().flatten().for_each(|packet| self.send(&packet));
    }

    /// The handle by which the application answers event `id`.
    pub(crate) fn reply(&self, id: u64) -> Reply {
        self.0.unsent_acks.set(self.0.unsent_acks.get() + 1);
        Reply::new(self.clone(), id)
    }

    /// A reply was sent or dropped.
    pub(crate) fn ack_sent(&self) {
        self.0.unsent_acks.set(self.0.unsent_acks.get().saturating_sub(1));
    }

    /// Removes the socket from the namespace and all its rooms. Pending acks resolve with an error.
    pub(crate) fn retire(&self) {
        self.0.last_rooms.replace(self.rooms());
        if let Some(key) = self.0.key.take() {
            self.0.local.remove(&self.0.namespace, key);
        }
        self.0.pending_acks.borrow_mut().clear();
    }
}
