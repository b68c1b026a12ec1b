//! One connected client: what it sends becomes questions to rooms and stores, and every question an ack. [`Clients`] is the
//! application that `socketio` serves; `door` lets clients in and `returning` recognises
//! those who were here before, `events` reads what they send, `visit` does it in
//! order; an event a file: `say`, `typing`, `rooms`, `recall`.

mod ack;
mod connect;
mod events;
mod history;
mod membership;
mod queue;
mod recovery;
mod send;
mod task;
mod typing;
mod typing_throttle;

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

use crate::{Chat, Error, broker::encode, chat::deadline_now, presence::Presence, socket_quota::SocketSlot};
use ack::Ack;
use events::Limits;
use queue::CommandQueue;

/// Between two complaints to one client.
const COMPLAINT: Duration = Duration::from_secs(1);

/// The chat as `socketio` knows it.
pub struct Clients {
    chat: Chat,
}

/// How long a client that is to be cut may still wait for acks: no answer takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection, before and between the visits that are made over it.
pub struct Admitted {
    /// Whom the gateway found; none for a client that must still say who it is.
    identity: Option<Identity>,
    /// One connection's, however often it leaves and comes back.
    limits: Rc<RefCell<Limits>>,
}

/// One client.
pub struct Client {
    visit: Rc<CommandQueue>,
    limits: Rc<RefCell<Limits>>,
    /// The offset at which it came in.
    offset: String,
    /// When it was last told of a refusal that it had asked no ack for.
    complained: Option<Instant>,
    /// It went on until it was cut: what it sent before it noticed is not looked at.
    is_cut: bool,
    /// Given back when the client goes, however it goes.
    slot: Option<SocketSlot>,
    /// None before the client is in, and after it has gone.
    present: Option<Present>,
}

/// A user counted as here, once, until this is dropped.
struct Present {
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
    type Admission = Admitted;
    type Peer = Client;

    fn admit(&self, request: &HttpRequest) -> Result<Self::Admission, Refusal> {
        let identity = request.extensions().get::<Identity>().cloned();
        let limits = Limits::new(self.chat.config(), Instant::now());
        Ok(Admitted { identity, limits: Rc::new(RefCell::new(limits)) })
    }

    /// The login that the request came with: nobody goes on with a session of another's.
    fn owner(&self, request: &HttpRequest) -> Option<String> {
        request.extensions().get::<Identity>().map(|identity| identity.session.clone())
    }

    fn connect(
        &self,
        connect: Connect<Admitted>,
    ) -> LocalBoxFuture<'static, Result<Accepted<Client>, Refusal>> {
        Box::pin(connect::enter(self.chat.clone(), connect))
    }
}

impl Client {
    fn new(visit: Rc<CommandQueue>, limits: Rc<RefCell<Limits>>, slot: SocketSlot, offset: String) -> Self {
        Self { visit, limits, offset, complained: None, is_cut: false, slot: Some(slot), present: None }
    }

    /// Tells a client that waits for no ack why it was refused, now and then, and before it is cut in any case.
    fn complain(&mut self, refused: &Error, is_last: bool, now: Instant) {
        if !is_last && self.complained.is_some_and(|last| now.saturating_duration_since(last) < COMPLAINT) {
            return;
        }
        self.complained = Some(now);
        if let Some(packet) = encode(name::ERROR, &refused.refused(), None) {
            self.visit.socket().emit(&packet);
        }
    }

    /// How many acks the client waits for, if it asks for one now.
    fn open_acks(&self, ack: &Ack) -> usize {
        if ack.is_wanted() { self.visit.socket().unsent_acks() } else { 0 }
    }

    /// Answers an event that is refused; a client that does not stop sending is cut.
    fn refuse(&mut self, refused: &Error, ack: Ack) {
        let now = Instant::now();
        let is_flooding = self.limits.borrow_mut().is_flooding(refused, now);
        if is_flooding || !ack.is_wanted() {
            self.complain(refused, is_flooding, now);
        }
        ack.refuse(refused);
        if is_flooding {
            self.is_cut = true;
            task::spawn(self.visit.socket(), cut(self.visit.socket().clone()));
        }
    }

    /// Carries an offset, so that a client that drops before its first message has one to come back with.
    fn emit_welcome(&self) {
        let username = self.visit.user().clone();
        let message = format!("Welcome {username}!");
        let welcome = Welcome { message, username, timestamp: Timestamp::now() };
        if let Some(packet) = encode(name::WELCOME, &welcome, Some(&self.offset)) {
            self.visit.socket().emit(&packet);
        }
    }
}

impl Peer for Client {
    fn connected(&mut self) {
        metrics::gauge!("godzilla_chat_guests").increment(1.0);
        self.emit_welcome();
        let presence = self.visit.chat().presence().clone();
        self.present = Some(Present::new(presence, self.visit.user().clone()));
        if let Some(packet) = self.visit.chat().shown().to(self.visit.user()) {
            self.visit.socket().emit(&packet);
        }
    }

    fn event(&mut self, mut event: Event, reply: Option<Reply>) {
        if self.is_cut {
            return;
        }
        supervision::fault!("event");
        let (deadline, ack) = (deadline_now(), Ack::new(reply));
        let read = self.limits.borrow_mut().read(&mut event, self.open_acks(&ack), Instant::now());
        match read {
            Ok(command) => self.visit.submit(command, ack, deadline),
            Err(refused) => self.refuse(&refused, ack),
        }
    }

    fn unreadable(&mut self, name: &str, reply: Option<Reply>) {
        if self.is_cut {
            return;
        }
        let ack = Ack::new(reply);
        let refused = self.limits.borrow_mut().unreadable(name, self.open_acks(&ack), Instant::now());
        self.refuse(&refused, ack);
    }

    fn ending(&mut self, reason: CloseReason) {
        let limit = self.visit.socket().max_payload();
        let refused = match reason {
            CloseReason::TooLarge => Error::TooLarge { what: "a message with all it carries", limit },
            CloseReason::Flood => Error::RateLimited { what: "too many packets", retry_after: COMPLAINT },
            other => Error::BadRequest(other.as_str().to_owned()),
        };
        if !self.is_cut {
            self.complain(&refused, true, Instant::now());
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        supervision::fault!("closed");
        metrics::counter!("godzilla_chat_guests_closed_total", "reason" => reason.as_str()).increment(1);
        self.visit.stop_typing();
        self.present = None;
        self.slot = None;
        let socket = self.visit.socket();
        self.visit.chat().reconnects().leave(socket.id(), socket.read_position());
    }
}

/// Ends the connection of a client that floods, once it was told what became of what it said before.
async fn cut(socket: Socket) {
    let _ = timeout(PATIENCE, socket.acks_sent()).await;
    socket.close(CloseReason::Flood);
}

impl Present {
    fn new(presence: Presence, user: Username) -> Self {
        presence.connected(&user);
        Self { presence, user }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        metrics::gauge!("godzilla_chat_guests").decrement(1.0);
        self.presence.disconnected(&self.user);
    }
}
