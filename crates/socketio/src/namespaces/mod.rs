//! Socket.IO on an Engine.IO session: the namespaces of one client, with the application's peer in each. The
//! [`SessionHandler`] of a Socket.IO session; it drives the [`machine`] and calls the application.

mod connect;
pub(crate) mod machine;
mod recovery;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use serde_json::Value;

use self::machine::{Effect, Machine};
use crate::{
    Config,
    app::{App, Event, Peer},
    close::CloseReason,
    connection::Connection,
    encoded::Encoded,
    io::NumberedIo,
    packet,
    session::{
        handler::{SessionContext, SessionHandler},
        rate::RateLimit,
        worker::{HandlerFactory, Worker},
    },
    socket::{LocalSockets, Socket},
};

/// The namespaces of one client.
pub(crate) struct Namespaces<A: App> {
    app: Arc<A>,
    config: Arc<Config>,
    local: Rc<LocalSockets>,
    connection: Rc<Connection>,
    /// The log for connection state recovery.
    recovery: Option<Rc<NumberedIo>>,
    admission: Rc<A::Admission>,
    machine: Machine,
    slots: Vec<NamespaceSlot<A::Peer>>,
    /// The number of CONNECTs that the application has not answered, including those of clients that have
    /// left again.
    pending_connects: usize,
    connect_rate: RateLimit,
    /// The rate of unexpected acks.
    stray_ack_rate: RateLimit,
}

/// The largest number of CONNECTs in one second. Clients join all their namespaces at once, and not
/// repeatedly.
const MAX_CONNECTS_PER_SECOND: u32 = 20;

/// The largest number of unexpected acks in one second. Above the number of acks that can be late at once.
const MAX_STRAY_ACKS_PER_SECOND: u32 = 1000;

/// A requested namespace. `peer` is `None` until the application accepts the client.
struct NamespaceSlot<P> {
    socket: Socket,
    peer: Option<P>,
}

impl<A: App> Namespaces<A> {
    /// A client in no namespace.
    pub(crate) fn new<H: HandlerFactory>(
        app: Arc<A>,
        worker: &Worker<H>,
        connection: Rc<Connection>,
        admission: A::Admission,
    ) -> Self {
        let (config, local) = (worker.config.clone(), worker.local.clone());
        let machine = Machine::new(&config);
        Self {
            app,
            config,
            local,
            connection,
            recovery: worker.recovery.clone(),
            admission: Rc::new(admission),
            machine,
            slots: Vec::new(),
            pending_connects: 0,
            connect_rate: RateLimit::new(MAX_CONNECTS_PER_SECOND),
            stray_ack_rate: RateLimit::new(MAX_STRAY_ACKS_PER_SECOND),
        }
    }

    fn send(&self, text: &str) {
        self.connection.push(Encoded::from_packet(text).frames(), false, self.local.heartbeats.now());
    }

    fn apply(&mut self, effect: Effect, ctx: &mut SessionContext<Self>) {
        match effect {
            Effect::None => {}
            Effect::Connect { namespace, .. }
            | Effect::DuplicateConnect { namespace }
            | Effect::Refuse { namespace, .. }
                if !self.connect_rate.allows(self.local.heartbeats.now()) =>
            {
                self.refuse(&namespace, "Too many CONNECTs in one second");
                self.connection.end(CloseReason::Flood);
            }
            Effect::Connect { namespace, .. } if self.pending_connects >= self.config.max_namespaces => {
                self.machine.refused(&namespace);
                self.refuse(&namespace, "Too many namespaces");
            }
            Effect::Connect { namespace, auth } => self.connect(&namespace, auth, ctx),
            Effect::DuplicateConnect { .. } => {}
            Effect::Refuse { namespace, message } => self.refuse(&namespace, message),
            Effect::Event { namespace, id, args, attachments } => {
                self.event(&namespace, id, args, attachments)
            }
            Effect::Unreadable { namespace, id, name } => self.unreadable(&namespace, id, &name),
            Effect::Ack { namespace, id, args, attachments } => {
                let is_awaited =
                    self.slot(&namespace).is_some_and(|slot| slot.socket.receive_ack(id, args, attachments));
                if !is_awaited {
                    self.count_stray_ack();
                }
            }
            Effect::StrayAck => self.count_stray_ack(),
            Effect::Leave { namespace } => self.leave(&namespace, CloseReason::ClientDisconnect),
        }
    }

    fn refuse(&self, namespace: &str, message: &str) {
        self.send(&packet::connect_error_text(namespace, message, None));
    }

    fn count_stray_ack(&mut self) {
        if !self.stray_ack_rate.allows(self.local.heartbeats.now()) {
            self.connection.end(CloseReason::Flood);
        }
    }

    fn event(&mut self, namespace: &str, id: Option<u64>, args: Vec<Value>, attachments: Vec<Bytes>) {
        let Some(NamespaceSlot { socket, peer: Some(peer) }) = self.slot(namespace) else { return };
        let mut args = args.into_iter();
        let name = match args.next() {
            Some(Value::String(name)) => name,
            // Numbers are valid event names. No application handles them.
            other => other.map(|name| name.to_string()).unwrap_or_default(),
        };
        metrics::counter!("socketio_events_received_total").increment(1);
        let reply = id.map(|id| socket.reply(id));
        peer.event(Event { name, args: args.collect(), attachments }, reply);
    }

    fn unreadable(&mut self, namespace: &str, id: Option<u64>, name: &str) {
        let Some(NamespaceSlot { socket, peer: Some(peer) }) = self.slot(namespace) else { return };
        metrics::counter!("socketio_events_unreadable_total").increment(1);
        let reply = id.map(|id| socket.reply(id));
        peer.unreadable(name, reply);
    }

    /// Removes the client from `namespace`. The transport and the other namespaces stay open.
    fn leave(&mut self, namespace: &str, reason: CloseReason) {
        self.machine.left(namespace);
        let Some(at) = self.slots.iter().position(|slot| slot.socket.namespace() == namespace) else {
            return;
        };
        self.slots.swap_remove(at).close(reason);
        if self.slots.is_empty() {
            // The wheel checks this session at its next heartbeat at the latest.
            self.connection.timer.borrow_mut().on_last_leave(self.local.heartbeats.now());
        }
    }

    fn slot(&mut self, namespace: &str) -> Option<&mut NamespaceSlot<A::Peer>> {
        self.slots.iter_mut().find(|slot| slot.socket.namespace() == namespace)
    }
}

impl<P: Peer> NamespaceSlot<P> {
    fn close(self, reason: CloseReason) {
        self.socket.retire();
        if let Some(mut peer) = self.peer {
            self.socket.leave_session(reason);
            peer.closed(reason);
        }
    }
}

impl<A: App> SessionHandler for Namespaces<A> {
    fn opened(&mut self) {}

    fn text(&mut self, text: &str, ctx: &mut SessionContext<Self>) -> Result<(), CloseReason> {
        let effect = self.machine.text(text)?;
        self.apply(effect, ctx);
        Ok(())
    }

    fn binary(&mut self, data: Bytes, ctx: &mut SessionContext<Self>) -> Result<(), CloseReason> {
        let effect = self.machine.binary(data)?;
        self.apply(effect, ctx);
        Ok(())
    }

    fn disconnect_namespace(&mut self, namespace: &str) {
        self.leave(namespace, CloseReason::ServerDisconnect);
    }

    fn disconnect_all(&mut self) {
        for slot in self.slots.iter().filter(|slot| slot.peer.is_some()) {
            self.send(&packet::disconnect_text(slot.socket.namespace()));
        }
    }

    fn ending(&mut self, reason: CloseReason) {
        let waiting = self.slots.iter().filter(|slot| slot.peer.is_none());
        waiting.for_each(|slot| self.refuse(slot.socket.namespace(), reason.as_str()));
        self.slots.iter_mut().filter_map(|slot| slot.peer.as_mut()).for_each(|peer| peer.ending(reason));
    }

    fn closed(&mut self, reason: CloseReason) {
        let slots = std::mem::take(&mut self.slots);
        // Sockets leave their rooms first: this cannot panic, the application's code can.
        slots.iter().for_each(|slot| slot.socket.retire());
        for slot in slots {
            let _ = catch_unwind(AssertUnwindSafe(|| slot.close(reason)));
        }
    }
}
