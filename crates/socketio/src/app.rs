//! The traits that an application implements: [`App`] decides which clients may connect, [`Peer`] handles one
//! connected client.

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
    /// The result of [`App::admit`], kept as long as the session.
    type Admission: 'static;
    /// The handler of one connected client.
    type Peer: Peer;

    /// Decides whether this HTTP request may open a session. Called before anything is allocated for the
    /// session.
    ///
    /// # Errors
    /// A refusal becomes an HTTP response with status 403.
    fn admit(&self, request: &HttpRequest) -> Result<Self::Admission, Refusal>;

    /// The owner of a request, where the request itself identifies one. All requests of a session must have
    /// the same owner. `None`, the default: the session id, which cannot be guessed, is the only check.
    fn owner(&self, _: &HttpRequest) -> Option<String> {
        None
    }

    /// Additional headers of the response that opens a session, for example cookies.
    fn headers(&self, _: &HttpRequest) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    /// Decides whether a client may join a namespace. The peer receives no event before the future resolves,
    /// and the CONNECT answer is sent before anything that the peer emits. The future runs on the session's
    /// worker and is dropped when the session ends.
    ///
    /// # Errors
    /// A refusal becomes a CONNECT_ERROR packet.
    fn connect(
        &self,
        connect: Connect<Self::Admission>,
    ) -> LocalBoxFuture<'static, Result<Accepted<Self::Peer>, Refusal>>;
}

/// The handler of one client in one namespace. It stays on one worker. Its methods are never called
/// concurrently and must not block. Work that waits is spawned, and answers through the [`Reply`].
pub trait Peer: Unpin + 'static {
    /// The CONNECT was answered. From now on an emit reaches the client.
    fn connected(&mut self) {}

    /// The client sent an event. Events arrive in the order in which the client sent them. `None` in `reply`:
    /// the client requests no ack.
    fn event(&mut self, event: Event, reply: Option<Reply>);

    /// The client sent an event whose arguments are JSON that cannot be represented: a number beyond a
    /// double, or more than 128 levels of nesting. The connection stays open. The default drops the event
    /// without an ack.
    fn unreadable(&mut self, _name: &str, _reply: Option<Reply>) {}

    /// The server is about to close the connection because the client exceeded a limit
    /// ([`CloseReason::Flood`], [`CloseReason::TooLarge`], [`CloseReason::TooManyAttachments`]), sent a
    /// packet that cannot be parsed ([`CloseReason::ParseError`], [`CloseReason::InvalidText`]), or one that
    /// the protocol does not allow at this point ([`CloseReason::ProtocolViolation`]). This is the last
    /// moment at which an emit reaches the client.
    fn ending(&mut self, _: CloseReason) {}

    /// The connection has ended. Later emits have no effect.
    fn closed(&mut self, reason: CloseReason);
}

/// The request of a client to join a namespace.
pub struct Connect<Admission> {
    /// The socket of this client. Its events are held back until the application accepts the client.
    pub socket: Socket,
    /// The namespace, `/` by default.
    pub namespace: Rc<str>,
    /// The CONNECT payload. An empty object if absent.
    pub auth: Value,
    /// Present if the client requests connection state recovery.
    pub resume: Option<Resume>,
    /// The result of [`App::admit`].
    pub admission: Rc<Admission>,
}

/// What a client sends to recover an earlier session (connection state recovery).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The private id from an earlier [`Accepted`].
    pub pid: String,
    /// The offset of the last event that the client received. `None` if it received no event with an offset.
    pub offset: Option<String>,
}

impl Resume {
    /// Reads the CONNECT payload as stock clients send it. A value that is not a string counts as absent.
    pub(crate) fn from_auth(auth: &Value) -> Option<Self> {
        let text = |name| auth.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self { pid: text("pid")?, offset: text("offset") })
    }
}

/// The answer of [`App::connect`] that accepts a client.
pub struct Accepted<P> {
    /// The handler of this client.
    pub peer: P,
    /// The private id by which the client can recover this session later. A recovered session keeps its id.
    /// `None` disables recovery for this client.
    pub pid: Option<String>,
    /// The state that a recovered session gets.
    pub recovered: Option<Recovered>,
}

impl<P> Accepted<P> {
    /// Accepts a client without recovery.
    pub fn new(peer: P) -> Self {
        Self { peer, pid: None, recovered: None }
    }
}

/// An event that a client sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The event's name.
    pub name: String,
    /// The arguments without the name. Binary arguments are `{"_placeholder":true,"num":N}`, where `N` is an
    /// index of `attachments`.
    pub args: Vec<Value>,
    /// The binary arguments.
    pub attachments: Vec<Bytes>,
}

impl Event {
    /// Argument `index` as a `T`. An absent argument is null.
    ///
    /// # Errors
    /// If the argument is not a `T`.
    pub fn arg<T: DeserializeOwned>(&mut self, index: usize) -> Result<T, serde_json::Error> {
        let value = self.args.get_mut(index).map(Value::take).unwrap_or_default();
        serde_json::from_value(value)
    }
}

/// Why a client may not connect. From [`App::admit`] it becomes an HTTP response with status 403, from
/// [`App::connect`] a CONNECT_ERROR with `message` and `data`.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Text for humans.
    pub message: String,
    /// Data for programs. `None` is omitted from the packet.
    pub data: Option<Value>,
}

impl Refusal {
    /// A refusal with only a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }
}
