//! One client in one namespace, as the application global_waits_left it: send to it, put it into rooms, end it. Cheap to clone; stays on
//! its worker.

mod closing;
mod emit_with_ack;
mod id;
mod local;
mod read_position;
mod reply;
mod room_table;

use std::{
    cell::{Cell, RefCell},
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

use crate::{
    Config, Encoded, Room,
    ack::Response,
    close::CloseReason,
    connection::{Connection, send_queue::SendQueue},
    packet,
};

/// What a client that comes back gets back, besides the id it had ([`Socket::adopt`]).
pub struct Recovered {
    /// The events it has missed, in order. What is sent to the socket's rooms while the application looks them up is held
    /// back until they are out.
    pub missed: Vec<Encoded>,
    /// The log's end when `missed` was read: of what was held back, events up to this [`Encoded::at`] position are dropped,
    /// because they are among the missed or not for this client.
    pub reached: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Socket(Rc<Inner>);

struct Inner {
    id: RefCell<SocketId>,
    namespace: Rc<str>,
    connection: Rc<Connection>,
    local: Rc<LocalSockets>,
    /// The key in the namespace's table; none once retired.
    key: Cell<Option<usize>>,
    /// The rooms it was in when it was retired.
    last_rooms: RefCell<Vec<Room>>,
    /// What was sent before the CONNECT was answered; none once it was.
    held: RefCell<Option<Vec<Encoded>>>,
    max_held: usize,
    max_payload: usize,
    /// Events up to this position of the log are behind the client already, whenever they come.
    skip_through: Cell<Option<u64>>,
    /// The position of the last event of the log that was sent to it.
    reached: Cell<Option<u64>>,
    /// What of the connection's pushes that was.
    last_position_push: Cell<u64>,
    pending_acks: RefCell<HashMap<u64, oneshot::Sender<Response>>>,
    max_pending_acks: usize,
    next_ack: Cell<u64>,
    unsent_acks: Cell<usize>,
}

impl Socket {
    /// A socket that is not yet open: what is sent to it is held until [`Socket::open`].
    pub(crate) fn new(
        namespace: &str,
        connection: Rc<Connection>,
        local: Rc<LocalSockets>,
        config: &Config,
    ) -> Self {
        let inner = Inner {
            id: RefCell::new(SocketId::random()),
            namespace: namespace.into(),
            connection,
            local,
            key: Cell::new(None),
            last_rooms: RefCell::default(),
            held: RefCell::new(Some(Vec::new())),
            max_held: config.send_queue_frames,
            max_payload: config.max_payload,
            skip_through: Cell::new(None),
            reached: Cell::new(None),
            last_position_push: Cell::new(0),
            pending_acks: RefCell::default(),
            max_pending_acks: config.max_pending_acks,
            next_ack: Cell::new(0),
            unsent_acks: Cell::new(0),
        };
        let socket = Self(Rc::new(inner));
        socket.0.key.set(Some(socket.0.local.enter(&socket)));
        socket.join(&socket.id().room());
        socket
    }

    /// The socket's id.
    pub fn id(&self) -> SocketId {
        self.0.id.borrow().clone()
    }

    /// Whether this is its id.
    pub(crate) fn has_id(&self, id: &SocketId) -> bool {
        *self.0.id.borrow() == *id
    }

    /// Whether both are handles of one socket.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// The name of the transport that carries it now.
    pub fn transport(&self) -> &'static str {
        self.0.connection.transport()
    }

    /// Gives the socket of a client that comes back the id it had; from then on it does not get what that one has sent. Only
    /// while the application decides whether to let it in, and after an earlier connection with this id was closed.
    pub fn adopt(&self, id: &SocketId) {
        self.leave(&self.id().room());
        self.0.id.replace(id.clone());
        self.join(&self.id().room());
    }

    /// The namespace it is in.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The largest message that its client may send, in bytes.
    pub fn max_payload(&self) -> usize {
        self.0.max_payload
    }

    /// Sends an event.
    pub fn emit(&self, event: &Encoded) {
        self.send(event);
    }

    /// Enters a room.
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

    /// Whether it is in a room.
    pub fn is_in(&self, room: &Room) -> bool {
        self.0.key.get().is_some_and(|key| self.0.local.is_in(&self.0.namespace, key, room))
    }

    /// The rooms it is in, or was in when it left: sorted, with the one of its own id.
    pub fn rooms(&self) -> Vec<Room> {
        let Some(key) = self.0.key.get() else { return self.0.last_rooms.borrow().clone() };
        let mut rooms = self.0.local.rooms_of(&self.0.namespace, key);
        rooms.sort_unstable();
        rooms
    }

    /// Waits until less than half of what may wait for the client does. Ask before every large response: several at once are more
    /// than a client can be expected to take.
    pub async fn caught_up(&self) {
        while self.0.key.get().is_some() && self.0.connection.send_queue.is_half_full() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many acks the client has asked for that have not been given.
    pub fn unsent_acks(&self) -> usize {
        self.0.unsent_acks.get()
    }

    /// Disconnects the client from the namespace with a DISCONNECT packet (`41`). Stock clients do not reconnect
    /// automatically. With a reason in `close`, the client is disconnected from all its namespaces and the connection is
    /// closed; with `None` the connection and its other namespaces stay open.
    pub fn disconnect(&self, close: Option<CloseReason>) {
        match close {
            Some(reason) => self.0.connection.end_namespaces(reason),
            None => {
                self.send(&Encoded::from_packet(&packet::disconnect_text(self.namespace())));
                self.0.connection.end_namespace(self.namespace());
            }
        }
    }

    /// Cuts the TCP connection of a WebSocket at once, as a network that fails would: no close frame, no word.
    pub fn abort(&self) {
        self.0.connection.abort();
    }

    /// Ends the whole connection without a word in Socket.IO: stock clients reconnect by themselves.
    pub fn close(&self, reason: CloseReason) {
        self.0.connection.end(reason);
    }

    /// Sends a packet that is for this client alone.
    pub(crate) fn send(&self, packet: &Encoded) {
        let _ = self.deliver(packet, false);
    }

    /// Queues a packet toward the client, or global_waits_left it until the socket is open; answers whether the client is falling behind.
    pub(crate) fn deliver(&self, packet: &Encoded, volatile: bool) -> bool {
        if let Some(held) = self.0.held.borrow_mut().as_mut() {
            if held.len() >= self.0.max_held {
                self.0.connection.end(CloseReason::Slow);
            } else {
                held.push(packet.clone());
            }
            return false;
        }
        let is_old = packet.position().is_some() && packet.position() <= self.0.skip_through.get();
        if is_old || self.0.key.get().is_none() {
            return false;
        }
        let is_lagging = self.0.connection.push(packet.frames(), volatile, self.0.local.heartbeats.now());
        if packet.position().is_some() {
            self.record_position(packet.position());
        }
        is_lagging
    }

    /// What waits for the client.
    pub(crate) fn send_queue(&self) -> Arc<SendQueue> {
        self.0.connection.send_queue.clone()
    }

    /// The CONNECT was answered: first the client gets what it has missed, in one piece, however much that is; then `connected`
    /// may send; then what was held goes out unless it is old by now; and from now on everything at once.
    pub(crate) fn open(&self, connected: impl FnOnce(), recovered: Option<Recovered>) {
        let held = self.0.held.take();
        let reached = recovered.as_ref().map(|recovered| recovered.reached);
        if let Some(missed) = recovered.and_then(|recovered| Encoded::joined(&recovered.missed)) {
            self.send(&missed);
        }
        connected();
        // What the log has on its way is stored already, and so among the missed.
        self.0.skip_through.set(reached);
        if reached.is_some() {
            self.record_position(reached);
        }
        held.into_iter().flatten().for_each(|packet| self.send(&packet));
    }

    /// A handle by which the application answers event `id`.
    pub(crate) fn reply(&self, id: u64) -> Reply {
        self.0.unsent_acks.set(self.0.unsent_acks.get() + 1);
        Reply::new(self.clone(), id)
    }

    /// A reply was given or dropped.
    pub(crate) fn ack_sent(&self) {
        self.0.unsent_acks.set(self.0.unsent_acks.get().saturating_sub(1));
    }

    /// Out of the namespace: out of all rooms, and who waits for an ack hears of it.
    pub(crate) fn retire(&self) {
        self.0.last_rooms.replace(self.rooms());
        if let Some(key) = self.0.key.take() {
            self.0.local.exit(&self.0.namespace, key);
        }
        self.0.pending_acks.borrow_mut().clear();
    }
}
