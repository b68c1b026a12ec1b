//! One connected client: its events become commands, and their answers become acknowledgements. [`Clients`] is the
//! application that `socketio` serves.
//!
//! [`connect`] accepts a client and [`recovery`] recovers its earlier session. [`events`] parses events into [`crate::commands`], and
//! [`queue`] runs them in order.

mod connect;
mod events;
mod queue;
mod recovery;

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use actix_web::{HttpMessage, HttpRequest};
use futures_util::future::LocalBoxFuture;
use proto::{
    Identity, Timestamp, Username,
    event::{Welcome, name},
};
use socketio::{Accepted, App, CloseReason, Connect, Event, Peer, Refusal, Reply, Socket};
use tokio::time::timeout;

use crate::{
    Chat, Error, ack::Ack, broker::encode, chat::deadline_now, presence::Presence, socket_quota::SocketSlot,
    task,
};
use events::Limits;
use queue::CommandQueue;

/// The minimum time between two `error` events to one client.
const ERROR_INTERVAL: Duration = Duration::from_secs(1);

/// How long a flooding client may still wait for acknowledgements before it is disconnected. No answer takes longer.
const ACK_WAIT: Duration = Duration::from_secs(5);

/// The chat as a `socketio` application.
pub struct Clients {
    chat: Chat,
}

/// The state of one connection. It exists before the first CONNECT and is shared by all sockets of the connection.
pub struct Admission {
    /// The user whose credentials the gateway has verified. `None` for a client that must send a token in CONNECT.
    identity: Option<Identity>,
    /// The limits of the connection. They hold across leaving and joining the namespace again.
    limits: Rc<RefCell<Limits>>,
}

/// The handler of one client.
pub struct Client {
    queue: Rc<CommandQueue>,
    limits: Rc<RefCell<Limits>>,
    /// The stream offset at which the client has connected.
    offset: String,
    /// When the last `error` event was sent.
    last_error: Option<Instant>,
    /// The client is being disconnected for flooding: its further events are dropped.
    is_closing: bool,
    /// Released when the client disconnects or is dropped.
    slot: Option<SocketSlot>,
    /// `None` before the client is connected, and after it has disconnected.
    online: Option<OnlineGuard>,
}

/// Counts one connection of a user as online until it is dropped.
struct OnlineGuard {
    presence: Presence,
    user: Username,
}

impl Clients {
    /// The application for a `socketio::Server`.
    pub fn new(chat: Chat) -> Self {
        Self { chat }
    }
}

impl App for Clients {
    type Admission = Admission;
    type Peer = Client;

    fn admit(&self, request: &HttpRequest) -> Result<Self::Admission, Refusal> {
        let identity = request.extensions().get::<Identity>().cloned();
        let limits = Limits::new(self.chat.config(), Instant::now());
        Ok(Admission { identity, limits: Rc::new(RefCell::new(limits)) })
    }

    /// The login session of the request. A connection accepts requests of its own login session only.
    fn owner(&self, request: &HttpRequest) -> Option<String> {
        request.extensions().get::<Identity>().map(|identity| identity.session.clone())
    }

    fn connect(
        &self,
        connect: Connect<Admission>,
    ) -> LocalBoxFuture<'static, Result<Accepted<Client>, Refusal>> {
        Box::pin(connect::connect(self.chat.clone(), connect))
    }
}

impl Client {
    fn new(queue: Rc<CommandQueue>, limits: Rc<RefCell<Limits>>, slot: SocketSlot, offset: String) -> Self {
        Self { queue, limits, offset, last_error: None, is_closing: false, slot: Some(slot), online: None }
    }

    /// Sends `refused` as an `error` event, at most one per [`ERROR_INTERVAL`]. `is_last`: the connection ends, and the event is sent in
    /// any case.
    fn emit_error(&mut self, refused: &Error, is_last: bool, now: Instant) {
        let is_recent =
            self.last_error.is_some_and(|last| now.saturating_duration_since(last) < ERROR_INTERVAL);
        if !is_last && is_recent {
            return;
        }
        self.last_error = Some(now);
        if let Some(packet) = encode(name::ERROR, &refused.refused(), None) {
            self.queue.socket().emit(&packet);
        }
    }

    /// The number of acknowledgements that the client waits for if `ack` is requested, else 0.
    fn open_acks(&self, ack: &Ack) -> usize {
        if ack.is_requested() { self.queue.socket().unsent_acks() } else { 0 }
    }

    /// Refuses an event. A client that keeps sending is disconnected.
    fn refuse(&mut self, refused: &Error, ack: Ack) {
        let now = Instant::now();
        let is_flooding = self.limits.borrow_mut().is_flooding(refused, now);
        if is_flooding || !ack.is_requested() {
            self.emit_error(refused, is_flooding, now);
        }
        ack.refuse(refused);
        if is_flooding {
            self.is_closing = true;
            task::spawn(self.queue.socket(), close_after_acks(self.queue.socket().clone()));
        }
    }

    /// Sends `welcome` with an offset, so that a client that disconnects before its first message can recover.
    fn emit_welcome(&self) {
        let username = self.queue.caller().user().clone();
        let message = format!("Welcome {username}!");
        let welcome = Welcome { message, username, timestamp: Timestamp::now() };
        if let Some(packet) = encode(name::WELCOME, &welcome, Some(&self.offset)) {
            self.queue.socket().emit(&packet);
        }
    }
}

impl Peer for Client {
    fn connected(&mut self) {
        metrics::gauge!("godzilla_chat_clients").increment(1.0);
        self.emit_welcome();
        let presence = self.queue.caller().chat().presence().clone();
        let list = presence.list_for(self.queue.caller().user());
        self.online = Some(OnlineGuard::new(presence, self.queue.caller().user().clone()));
        if let Some(packet) = list {
            self.queue.socket().emit(&packet);
        }
    }

    fn event(&mut self, mut event: Event, reply: Option<Reply>) {
        if self.is_closing {
            return;
        }
        supervision::fault!("event");
        let (deadline, ack) = (deadline_now(), Ack::new(reply));
        let (open_acks, config) = (self.open_acks(&ack), self.queue.caller().chat().config());
        let read = self.limits.borrow_mut().read(&mut event, open_acks, config, Instant::now());
        match read {
            Ok(command) => self.queue.submit(command, ack, deadline),
            Err(refused) => self.refuse(&refused, ack),
        }
    }

    fn unreadable(&mut self, name: &str, reply: Option<Reply>) {
        if self.is_closing {
            return;
        }
        let ack = Ack::new(reply);
        let refused = self.limits.borrow_mut().unreadable(name, self.open_acks(&ack), Instant::now());
        self.refuse(&refused, ack);
    }

    fn ending(&mut self, reason: CloseReason) {
        let limit = self.queue.socket().max_payload();
        let refused = match reason {
            CloseReason::TooLarge => Error::TooLarge { what: "a message with its attachments", limit },
            CloseReason::Flood => {
                Error::RateLimited { what: "too many packets", retry_after: ERROR_INTERVAL }
            }
            other => Error::BadRequest(other.as_str().to_owned()),
        };
        if !self.is_closing {
            self.emit_error(&refused, true, Instant::now());
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        supervision::fault!("closed");
        metrics::counter!("godzilla_chat_clients_closed_total", "reason" => reason.as_str()).increment(1);
        self.queue.caller().stop_typing();
        self.online = None;
        self.slot = None;
        let socket = self.queue.socket();
        self.queue.caller().chat().reconnects().store(socket.id(), socket.read_position());
    }
}

/// Closes the connection of a flooding client after its accepted events were acknowledged, or after [`ACK_WAIT`].
async fn close_after_acks(socket: Socket) {
    let _ = timeout(ACK_WAIT, socket.acks_sent()).await;
    socket.close(CloseReason::Flood);
}

impl OnlineGuard {
    fn new(presence: Presence, user: Username) -> Self {
        presence.connected(&user);
        Self { presence, user }
    }
}

impl Drop for OnlineGuard {
    fn drop(&mut self) {
        metrics::gauge!("godzilla_chat_clients").decrement(1.0);
        self.presence.disconnected(&self.user);
    }
}
