//! What an application writes: an [`App`] send who may connect, a [`Peer`] is one connected client.

use std::rc::Rc;

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    close::CloseReason,
    socket::{Recovered, Reply, Socket},
};

/// An application on this server. One instance serves all workers.
pub trait App: Send + Sync + 'static {
    /// What [`App::admit`] learned from the HTTP request, kept for the life of the session.
    type Admission: 'static;
    /// One connected client.
    type Peer: Peer;

    /// May this HTTP request open a session? Called before anything is allocated for it.
    fn admit(&self, request: &HttpRequest) -> Result<Self::Admission, Refusal>;

    /// Whose request this is, where a request itself can tell: what follows within a session must come from the same one.
    /// None, the default, leaves it at the session id, which nobody can guess.
    fn owner(&self, _: &HttpRequest) -> Option<String> {
        None
    }

    /// Headers for the answer that opens a session, cookies for example.
    fn headers(&self, _: &HttpRequest) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    /// A client asks to join a namespace. No event reaches the peer before this has answered; the answer CONNECT goes out
    /// before anything the peer emits. The future runs on the session's worker and is dropped when the session ends.
    fn connect(
        &self,
        connect: Connect<Self::Admission>,
    ) -> LocalBoxFuture<'static, Result<Accepted<Self::Peer>, Refusal>>;
}

/// One connected client of the application, in one namespace. Lives on one worker; its methods are never called
/// concurrently and must not block. Work that waits is spawned and answers through the [`Reply`].
pub trait Peer: Unpin + 'static {
    /// The CONNECT was answered: the first moment at which an emit reaches the client.
    fn connected(&mut self) {}

    /// The client sent an event, in the order sent. Without a `reply` the client wants no ack.
    fn event(&mut self, event: Event, reply: Option<Reply>);

    /// The client sent an event whose arguments are JSON that cannot be represented: a number beyond a double, or more than 128
    /// levels. The connection lives on. By default the event is dropped, and its ack is never given.
    fn unreadable(&mut self, _name: &str, _reply: Option<Reply>) {}

    /// The server is about to end the connection because of what the client did: it went beyond a limit
    /// ([`CloseReason::Flood`], [`CloseReason::TooLarge`], [`CloseReason::TooManyAttachments`]), or it sent a packet where the
    /// protocol allows none ([`CloseReason::ProtocolViolation`]). The last moment at which an emit reaches it.
    fn ending(&mut self, _: CloseReason) {}

    /// The connection has ended; nothing that is emitted any more reaches the client.
    fn closed(&mut self, reason: CloseReason);
}

/// A client's wish to join a namespace.
pub struct Connect<Admission> {
    /// The connection to be; keep it in the peer.
    pub socket: Socket,
    /// The namespace, `/` unless the client input otherwise.
    pub namespace: Rc<str>,
    /// The CONNECT payload; an empty object when the client sent none.
    pub auth: Value,
    /// The client was here before and asks to go on where it was.
    pub resume: Option<Resume>,
    /// What [`App::admit`] learned.
    pub admission: Rc<Admission>,
}

/// What a client with connection state recovery sends when it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The private id that an earlier [`Accepted`] gave it.
    pub pid: String,
    /// The offset of the last event it has seen; none if it saw no event with one.
    pub offset: Option<String>,
}

impl Resume {
    /// From the CONNECT payload, where stock clients put it. Anything but strings counts as absent.
    pub(crate) fn from_auth(auth: &Value) -> Option<Self> {
        let text = |name| auth.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self { pid: text("pid")?, offset: text("offset") })
    }
}

/// A client that is let in.
pub struct Accepted<P> {
    /// The application's side of it.
    pub peer: P,
    /// A private id by which the client may ask to be recognised later; a recognised client keeps the one it had. None turns
    /// recovery off for this client.
    pub pid: Option<String>,
    /// What a recognised client gets back.
    pub recovered: Option<Recovered>,
}

impl<P> Accepted<P> {
    /// A client without recovery.
    pub fn new(peer: P) -> Self {
        Self { peer, pid: None, recovered: None }
    }
}

/// An event as it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its arguments without the name; binary ones are `{"_placeholder":true,"num":N}` into `attachments`.
    pub args: Vec<Value>,
    /// The binary arguments.
    pub attachments: Vec<Bytes>,
}

impl Event {
    /// Argument `index` as a `T`; an absent one is null.
    pub fn arg<T: DeserializeOwned>(&mut self, index: usize) -> Result<T, serde_json::Error> {
        let value = self.args.get_mut(index).map(Value::take).unwrap_or_default();
        serde_json::from_value(value)
    }
}

/// Why a client may not connect. From [`App::admit`] it becomes an HTTP answer (403), from [`App::connect`] a
/// CONNECT_ERROR with `message` and `data`.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// For people.
    pub message: String,
    /// For programs; left out when none.
    pub data: Option<Value>,
}

impl Refusal {
    /// A refusal with a message only.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }
}
