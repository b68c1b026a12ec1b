//! The connection of one session as the rest of its worker uses it: to send, to check the heartbeat, and to
//! close. Shared by the session's actor, its sockets and the shard, all on one thread. Transports hold the
//! send queue and the TCP handle.

pub(crate) mod budget;
pub(crate) mod heartbeat_timer;
mod limits;
pub(crate) mod send_queue;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use actix::{Message, Recipient};
use bytes::Bytes;

use self::{
    heartbeat_timer::HeartbeatTimer,
    send_queue::{Limits, PushOutcome, SendQueue},
};
use crate::{Config, close::CloseReason, request::RequestHead, tcp::TcpHandle};

/// A request to the session's actor to end something.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) enum EndRequest {
    /// EndRequest the session.
    Session(CloseReason),
    /// Disconnect the client from all its namespaces with a DISCONNECT packet each, then end the session.
    AllNamespaces(CloseReason),
    /// The application disconnected the client from this namespace. The DISCONNECT packet is queued already.
    Namespace(String),
    /// EndRequest the session if its client has still joined no namespace: too many sessions have opened
    /// after it.
    Unjoined,
}

/// The connection of one session.
pub(crate) struct Connection {
    /// The Engine.IO session id. A credential: never shown to other clients, never logged.
    pub(crate) sid: Rc<str>,
    pub(crate) send_queue: Arc<SendQueue>,
    pub(crate) timer: RefCell<HeartbeatTimer>,
    /// The TCP connection of the transport. Aborted if the client no longer reads.
    tcp: RefCell<Arc<TcpHandle>>,
    transport: Cell<&'static str>,
    session: Recipient<EndRequest>,
    /// The head of the request that opened the session, if heads are kept.
    handshake: Option<Arc<RequestHead>>,
    /// The head of the latest request, if heads are kept.
    request: RefCell<Option<Arc<RequestHead>>>,
    /// The number of frames that were queued so far.
    pushed: Cell<u64>,
    /// Whether the last poll response contained packets and the client has not polled since.
    unconfirmed: Cell<bool>,
    ended: Cell<Option<(CloseReason, Instant)>>,
    /// Whether the session's actor has processed the end.
    over: Cell<bool>,
    /// Whether messages of the client are ignored from now on.
    ignores_input: Cell<bool>,
}

impl Connection {
    /// The connection of a session that opens at `now`.
    pub(crate) fn new(
        sid: Rc<str>,
        session: Recipient<EndRequest>,
        tcp: Arc<TcpHandle>,
        transport: &'static str,
        config: &Config,
        limits: Limits,
        now: Instant,
    ) -> Self {
        Self {
            sid,
            send_queue: Arc::new(SendQueue::new(limits)),
            timer: RefCell::new(HeartbeatTimer::new(config, now)),
            tcp: RefCell::new(tcp),
            transport: Cell::new(transport),
            session,
            handshake: None,
            request: RefCell::default(),
            pushed: Cell::new(0),
            unconfirmed: Cell::new(false),
            ended: Cell::new(None),
            over: Cell::new(false),
            ignores_input: Cell::new(false),
        }
    }

    /// The same connection with the head of the request that opened the session, if heads are kept.
    pub(crate) fn with_handshake(self, head: Option<Arc<RequestHead>>) -> Self {
        Self { request: RefCell::new(head.clone()), handshake: head, ..self }
    }

    /// The head of the request that opened the session.
    pub(crate) fn handshake(&self) -> Option<Arc<RequestHead>> {
        self.handshake.clone()
    }

    /// The head of the latest request.
    pub(crate) fn request(&self) -> Option<Arc<RequestHead>> {
        self.request.borrow().clone()
    }

    /// A request of the session is processed. `None`: heads are not kept.
    pub(crate) fn set_request(&self, head: Option<Arc<RequestHead>>) {
        if head.is_some() {
            self.request.replace(head);
        }
    }

    /// The name of the session's current transport.
    pub(crate) fn transport(&self) -> &'static str {
        self.transport.get()
    }

    /// The session was upgraded to a WebSocket on `tcp`. Extends the deadline of an outstanding ping.
    pub(crate) fn upgraded(&self, tcp: Arc<TcpHandle>, now: Instant) {
        self.tcp.replace(tcp);
        self.transport.set("websocket");
        self.unconfirmed.set(false);
        self.timer.borrow_mut().on_packet(now);
    }

    /// Queues `frame`. Returns whether the client lags. If the queue is full, the connection is closed as
    /// slow.
    pub(crate) fn push(&self, frame: Bytes, volatile: bool, now: Instant) -> bool {
        let pushed = self.send_queue.push(frame, volatile, now);
        if matches!(pushed, PushOutcome::Queued | PushOutcome::Lagging) {
            self.pushed.set(self.pushed.get() + 1);
        }
        match pushed {
            PushOutcome::Lagging => return true,
            PushOutcome::Queued | PushOutcome::Closed => {}
            PushOutcome::Dropped => metrics::counter!("socketio_volatile_packets_dropped_total").increment(1),
            PushOutcome::Full => self.end_at(CloseReason::Slow, now),
        }
        false
    }

    /// The number of frames that were queued so far.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed.get()
    }

    /// Whether the client closed the connection after it had received the first `pushed` frames. A frame that
    /// was written to a WebSocket counts as received. A poll response counts as received at the next poll.
    pub(crate) fn client_closed_after(&self, pushed: u64) -> bool {
        let client_closed = matches!(self.ended.get(), Some((CloseReason::TransportClose, _)));
        client_closed && self.send_queue.dequeued() >= pushed && !self.unconfirmed.get()
    }

    /// Set by a poll response with packets, cleared by the next poll.
    pub(crate) fn set_unconfirmed(&self, unconfirmed: bool) {
        self.unconfirmed.set(unconfirmed);
    }

    /// Asks the session's actor to end the session. Only the first reason takes effect.
    pub(crate) fn end(&self, reason: CloseReason) {
        self.end_at(reason, Instant::now());
    }

    fn end_at(&self, reason: CloseReason, now: Instant) {
        if self.ended.get().is_some() {
            return;
        }
        self.ended.set(Some((reason, now)));
        if reason == CloseReason::Slow {
            // The transport of a client that does not read is not polled, so it must be aborted from here.
            self.send_queue.abort();
            self.abort();
        }
        self.notify(EndRequest::Session(reason));
    }

    /// Ends the session if its client has joined no namespace.
    pub(crate) fn end_unjoined(&self) {
        if self.ended.get().is_none() && self.timer.borrow().is_unjoined() {
            self.notify(EndRequest::Unjoined);
        }
    }

    /// The application disconnected the client from a namespace.
    pub(crate) fn end_namespace(&self, namespace: &str) {
        if self.ended.get().is_none() {
            self.notify(EndRequest::Namespace(namespace.to_owned()));
        }
    }

    /// The application disconnects the client from all namespaces and ends the session.
    pub(crate) fn end_namespaces(&self, reason: CloseReason) {
        if self.ended.get().is_none() {
            self.notify(EndRequest::AllNamespaces(reason));
        }
    }

    #[allow(clippy::disallowed_methods, reason = "bounded: once per session and namespace")]
    fn notify(&self, end: EndRequest) {
        self.session.do_send(end);
    }

    /// When the session ended. `None` while it is open.
    pub(crate) fn ended_at(&self) -> Option<Instant> {
        self.ended.get().map(|(_, at)| at)
    }

    /// Whether the session's actor has processed the end.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// The session's actor processes the end now. Returns the first reason.
    pub(crate) fn record_end(&self, reason: CloseReason, now: Instant) -> CloseReason {
        let first = self.ended.get().unwrap_or((reason, now));
        self.ended.set(Some(first));
        self.over.set(true);
        first.0
    }

    /// Ignores messages of the client from now on. Returns whether they were not ignored before.
    pub(crate) fn ignore_input(&self) -> bool {
        !self.ignores_input.replace(true)
    }

    /// Whether messages of the client are ignored.
    pub(crate) fn ignores_input(&self) -> bool {
        self.ignores_input.get()
    }

    /// Aborts the TCP connection.
    pub(crate) fn abort(&self) {
        self.tcp.borrow().abort();
    }
}
