//! What the rest of a worker holds of one session: enough to send to it, to keep its heart beating and to end it. Shared by
//! the session's actor, its transport, its sockets and the shard, all on one thread.

use std::{cell::Cell, cell::RefCell, rc::Rc, time::Instant};

use actix::Recipient;
use bytes::Bytes;

use super::{
    End,
    clock::Clock,
    outbox::{Limits, Outbox, Push},
};
use crate::{Config, close::CloseReason, transport::wire::Wire};

/// See the module.
pub(crate) struct Link {
    /// The Engine.IO session id. A credential: never shown to other clients, never logged.
    pub(crate) sid: Rc<str>,
    pub(crate) outbox: Outbox,
    pub(crate) clock: RefCell<Clock>,
    /// The connection under the transport, to be cut when its client no longer reads.
    wire: RefCell<Option<Wire>>,
    session: Recipient<End>,
    ended: Cell<Option<(CloseReason, Instant)>>,
}

impl Link {
    /// The link of a session that opens at `now`.
    pub(crate) fn new(
        sid: Rc<str>,
        session: Recipient<End>,
        wire: Option<Wire>,
        config: &Config,
        now: Instant,
    ) -> Self {
        let limits =
            Limits { bytes: config.outbox_bytes, frames: config.outbox_frames, stall: config.stall_timeout };
        Self {
            sid,
            outbox: Outbox::new(limits),
            clock: RefCell::new(Clock::new(config, now)),
            wire: RefCell::new(wire),
            session,
            ended: Cell::new(None),
        }
    }

    /// Queues `frame` toward the client. A client too far behind loses its connection.
    pub(crate) fn push(&self, frame: Bytes, volatile: bool, now: Instant) {
        match self.outbox.push(frame, volatile, now) {
            Push::Queued | Push::Closed => {}
            Push::Skipped => metrics::counter!("socketio_skipped_volatile_total").increment(1),
            Push::Full => self.end_at(CloseReason::Slow, now),
        }
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

    /// The application put the client out of a namespace.
    pub(crate) fn end_namespace(&self, namespace: &str) {
        if self.ended.get().is_none() {
            self.tell(End::Namespace(namespace.to_owned()));
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

    /// Notes the reason of an end that the session's actor itself came to; answers with the one that counts.
    pub(crate) fn note_end(&self, reason: CloseReason, now: Instant) -> CloseReason {
        let first = self.ended.get().unwrap_or((reason, now));
        self.ended.set(Some(first));
        first.0
    }

    /// Cuts the connection at once.
    pub(crate) fn cut(&self) {
        if let Some(wire) = &*self.wire.borrow() {
            wire.cut();
        }
    }

    /// Tells the client that nothing more comes.
    pub(crate) fn finish_writing(&self) {
        if let Some(wire) = &*self.wire.borrow() {
            wire.finish_writing();
        }
    }

    /// The transport is gone: its connection must not be touched any more.
    pub(crate) fn transport_gone(&self) {
        self.wire.replace(None);
        self.outbox.abort();
        self.end(CloseReason::TransportClose);
    }
}
