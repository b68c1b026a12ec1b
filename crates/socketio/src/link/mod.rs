//! What the rest of a worker holds of one session: enough to send to it, to keep its heart beating and to end it. Shared by
//! the session's actor, its sockets and the shard, all on one thread; transports hold the outbox and the wire.

pub(crate) mod budget;
pub(crate) mod clock;
mod limits;
pub(crate) mod outbox;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use actix::{Message, Recipient};
use bytes::Bytes;

use self::{
    clock::Clock,
    outbox::{Limits, Outbox, Push},
};
use crate::{Config, close::CloseReason, wire::Wire};

/// Something must end that the session's actor does not yet know of.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) enum End {
    /// The session.
    Session(CloseReason),
    /// Everything, after the client was told that it is out of its namespaces.
    Everything(CloseReason),
    /// The application put the client out of this namespace; the packet that says so is on its way.
    Namespace(String),
    /// The session, if its client has joined nothing yet: too many others have come since.
    Unjoined,
}

/// See the module.
pub(crate) struct Link {
    /// The Engine.IO session id. A credential: never shown to other clients, never logged.
    pub(crate) sid: Rc<str>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) clock: RefCell<Clock>,
    /// The connection under the transport, to be cut when its client no longer reads.
    wire: RefCell<Arc<Wire>>,
    transport: Cell<&'static str>,
    session: Recipient<End>,
    /// How often something was queued.
    pushed: Cell<u64>,
    /// Whether the last answer to a poll carried something and the client has not polled since.
    unheard: Cell<bool>,
    ended: Cell<Option<(CloseReason, Instant)>>,
    /// Whether the session's actor has dealt with its end.
    over: Cell<bool>,
    /// Whether the client's messages are ignored from now on.
    deaf: Cell<bool>,
}

impl Link {
    /// The link of a session that opens now.
    pub(crate) fn new(
        sid: Rc<str>,
        session: Recipient<End>,
        wire: Arc<Wire>,
        transport: &'static str,
        config: &Config,
        limits: Limits,
        now: Instant,
    ) -> Self {
        Self {
            sid,
            outbox: Arc::new(Outbox::new(limits)),
            clock: RefCell::new(Clock::new(config, now)),
            wire: RefCell::new(wire),
            transport: Cell::new(transport),
            session,
            pushed: Cell::new(0),
            unheard: Cell::new(false),
            ended: Cell::new(None),
            over: Cell::new(false),
            deaf: Cell::new(false),
        }
    }

    /// The name of the transport that carries the session now.
    pub(crate) fn transport(&self) -> &'static str {
        self.transport.get()
    }

    /// A WebSocket on `wire` carries the session from now on; a ping that went unheard in between is forgiven.
    pub(crate) fn upgraded(&self, wire: Arc<Wire>, now: Instant) {
        self.wire.replace(wire);
        self.transport.set("websocket");
        self.unheard.set(false);
        self.clock.borrow_mut().packet(now);
    }

    /// Queues `frame` toward the client; answers whether it is falling behind. One too far behind loses its connection.
    pub(crate) fn push(&self, frame: Bytes, volatile: bool, now: Instant) -> bool {
        let pushed = self.outbox.push(frame, volatile, now);
        if matches!(pushed, Push::Queued | Push::Crowded) {
            self.pushed.set(self.pushed.get() + 1);
        }
        match pushed {
            Push::Crowded => return true,
            Push::Queued | Push::Closed => {}
            Push::Skipped => metrics::counter!("socketio_skipped_volatile_total").increment(1),
            Push::Full => self.end_at(CloseReason::Slow, now),
        }
        false
    }

    /// How often something was queued so far.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed.get()
    }

    /// Whether the client itself closed the connection when of the first `pushed` nothing waited for it here any more. What a
    /// WebSocket had on its way is taken for read; the answer to a poll is not before the next poll.
    pub(crate) fn was_left_after(&self, pushed: u64) -> bool {
        let was_left = matches!(self.ended.get(), Some((CloseReason::TransportClose, _)));
        was_left && self.outbox.taken() >= pushed && !self.unheard.get()
    }

    /// The client polls, or was answered with something.
    pub(crate) fn set_unheard(&self, unheard: bool) {
        self.unheard.set(unheard);
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
            self.outbox.abort();
            self.cut();
        }
        self.tell(End::Session(reason));
    }

    /// Ends the session if its client has joined nothing.
    pub(crate) fn end_unjoined(&self) {
        if self.ended.get().is_none() && self.clock.borrow().is_unjoined() {
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
            self.tell(End::Everything(reason));
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
    pub(crate) fn note_end(&self, reason: CloseReason, now: Instant) -> CloseReason {
        let first = self.ended.get().unwrap_or((reason, now));
        self.ended.set(Some(first));
        self.over.set(true);
        first.0
    }

    /// Ignores what the client sends from now on. Answers whether that is new.
    pub(crate) fn stop_listening(&self) -> bool {
        !self.deaf.replace(true)
    }

    /// Whether what the client sends is ignored.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.get()
    }

    /// Cuts the connection at once.
    pub(crate) fn cut(&self) {
        self.wire.borrow().cut();
    }
}
