//! What the rest of a worker global_waits_left of one session: enough to send to it, to keep its heart beating and to end it. Shared by
//! the session's actor, its sockets and the shard, all on one thread; transports hold the send_queue and the tcp.

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
use crate::{Config, close::CloseReason, tcp::TcpHandle};

/// Something must end that the session's actor does not yet know of.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) enum End {
    /// The session.
    Session(CloseReason),
    /// Everything, after the client was told that it is out of its namespaces.
    AllNamespaces(CloseReason),
    /// The application put the client out of this namespace; the packet that send so is on its way.
    Namespace(String),
    /// The session, if its client has joined nothing yet: too many others have come since.
    Unjoined,
}

/// See the module.
pub(crate) struct Connection {
    /// The Engine.IO session id. A credential: never shown to other clients, never logged.
    pub(crate) sid: Rc<str>,
    pub(crate) send_queue: Arc<SendQueue>,
    pub(crate) timer: RefCell<HeartbeatTimer>,
    /// The connection under the transport, to be cut when its client no longer reads.
    tcp: RefCell<Arc<TcpHandle>>,
    transport: Cell<&'static str>,
    session: Recipient<End>,
    /// How often something was queued.
    pushed: Cell<u64>,
    /// Whether the last answer to a poll carried something and the client has not polled since.
    unconfirmed: Cell<bool>,
    ended: Cell<Option<(CloseReason, Instant)>>,
    /// Whether the session's actor has dealt with its end.
    over: Cell<bool>,
    /// Whether the client's messages are ignored from now on.
    ignores_input: Cell<bool>,
}

impl Connection {
    /// The connection of a session that opens now.
    pub(crate) fn new(
        sid: Rc<str>,
        session: Recipient<End>,
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
            pushed: Cell::new(0),
            unconfirmed: Cell::new(false),
            ended: Cell::new(None),
            over: Cell::new(false),
            ignores_input: Cell::new(false),
        }
    }

    /// The name of the transport that carries the session now.
    pub(crate) fn transport(&self) -> &'static str {
        self.transport.get()
    }

    /// A WebSocket on `tcp` carries the session from now on; a ping that went unconfirmed in between is forgiven.
    pub(crate) fn upgraded(&self, tcp: Arc<TcpHandle>, now: Instant) {
        self.tcp.replace(tcp);
        self.transport.set("websocket");
        self.unconfirmed.set(false);
        self.timer.borrow_mut().packet(now);
    }

    /// Queues `frame` toward the client; answers whether it is falling behind. One too far behind loses its connection.
    pub(crate) fn push(&self, frame: Bytes, volatile: bool, now: Instant) -> bool {
        let pushed = self.send_queue.push(frame, volatile, now);
        if matches!(pushed, PushOutcome::Queued | PushOutcome::Lagging) {
            self.pushed.set(self.pushed.get() + 1);
        }
        match pushed {
            PushOutcome::Lagging => return true,
            PushOutcome::Queued | PushOutcome::Closed => {}
            PushOutcome::Skipped => metrics::counter!("socketio_volatile_packets_dropped_total").increment(1),
            PushOutcome::Full => self.end_at(CloseReason::Slow, now),
        }
        false
    }

    /// How often something was queued so far.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed.get()
    }

    /// Whether the client itself closed the connection when of the first `pushed` nothing waited for it here any more. What a
    /// WebSocket had on its way is taken for read; the answer to a poll is not before the next poll.
    pub(crate) fn client_closed_after(&self, pushed: u64) -> bool {
        let was_left = matches!(self.ended.get(), Some((CloseReason::TransportClose, _)));
        was_left && self.send_queue.dequeued() >= pushed && !self.unconfirmed.get()
    }

    /// The client polls, or was answered with something.
    pub(crate) fn set_unconfirmed(&self, unconfirmed: bool) {
        self.unconfirmed.set(unconfirmed);
    }

    /// Ends the session: the actor hears of it and does the rest. Only the first reason counts.
    pub(crate) fn end(&self, reason: CloseReason) {
        self.end_at(reason, Instant::now());
    }

    fn end_at(&self, reason: CloseReason, now: Instant) {
        if self.ended.get().is_some() {
            return;
        }
        self.ended.set(Some((reason, now)));
        if reason == CloseReason::Slow {
            // Nobody polls the transport of a client that does not read: it must be cut from outside.
            self.send_queue.abort();
            self.abort();
        }
        self.tell(End::Session(reason));
    }

    /// Ends the session if its client has joined nothing.
    pub(crate) fn end_unjoined(&self) {
        if self.ended.get().is_none() && self.timer.borrow().is_unjoined() {
            self.tell(End::Unjoined);
        }
    }

    /// The application put the client out of a namespace.
    pub(crate) fn end_namespace(&self, namespace: &str) {
        if self.ended.get().is_none() {
            self.tell(End::Namespace(namespace.to_owned()));
        }
    }

    /// The application puts the client out of all namespaces and ends the session.
    pub(crate) fn end_namespaces(&self, reason: CloseReason) {
        if self.ended.get().is_none() {
            self.tell(End::AllNamespaces(reason));
        }
    }

    #[allow(clippy::disallowed_methods, reason = "bounded: once per session and namespace")]
    fn tell(&self, end: End) {
        self.session.do_send(end);
    }

    /// Whether the session has ended, and when.
    pub(crate) fn ended_at(&self) -> Option<Instant> {
        self.ended.get().map(|(_, at)| at)
    }

    /// Whether the session's actor has dealt with its end.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// The session's actor deals with its end now; answers with the reason that counts.
    pub(crate) fn record_end(&self, reason: CloseReason, now: Instant) -> CloseReason {
        let first = self.ended.get().unwrap_or((reason, now));
        self.ended.set(Some(first));
        self.over.set(true);
        first.0
    }

    /// Ignores what the client sends from now on. Responses whether that is new.
    pub(crate) fn ignore_input(&self) -> bool {
        !self.ignores_input.replace(true)
    }

    /// Whether what the client sends is ignored.
    pub(crate) fn ignores_input(&self) -> bool {
        self.ignores_input.get()
    }

    /// Cuts the connection at once.
    pub(crate) fn abort(&self) {
        self.tcp.borrow().abort();
    }
}
