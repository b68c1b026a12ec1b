//! Socket.IO on an Engine.IO session: the namespaces one client has joined, with the application's peer in each. An
//! [`Occupant`] of the session, driven by it; drives the [`machine`] and the application.

pub(crate) mod machine;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
};

use actix::{ActorFutureExt, AsyncContext, fut::wrap_future};
use bytes::Bytes;
use serde_json::Value;

use self::machine::{Effect, Machine};
use crate::{
    Config,
    app::{App, Connect, Entry, Event, Peer, Refusal, Resume},
    close::CloseReason,
    encoded::Encoded,
    link::Link,
    packet,
    session::{
        Session,
        occupant::{Ctx, Occupant},
        pace::Pace,
    },
    socket::{Local, Socket},
};

/// See the module.
pub(crate) struct Namespaces<A: App> {
    app: Arc<A>,
    config: Arc<Config>,
    local: Rc<Local>,
    link: Rc<Link>,
    admission: Rc<A::Admission>,
    machine: Machine,
    seats: Vec<Seat<A::Peer>>,
    /// How often the application is deciding, also for clients that have left again since.
    deciding: usize,
    connects: Pace,
    /// Acks that nobody waits for.
    stray_acks: Pace,
}

/// CONNECTs in one second: clients join what they need at once, and no more.
const CONNECTS: u32 = 20;

/// Acks in one second that nobody waits for: as many as may be late at once, and more.
const STRAY_ACKS: u32 = 1000;

/// A namespace the client asked for; without a peer while the application decides.
struct Seat<P> {
    socket: Socket,
    peer: Option<P>,
}

impl<A: App> Namespaces<A> {
    /// A client that has joined nothing yet.
    pub(crate) fn new(
        app: Arc<A>,
        config: Arc<Config>,
        local: Rc<Local>,
        link: Rc<Link>,
        admission: A::Admission,
    ) -> Self {
        let machine = Machine::new(&config);
        Self {
            app,
            config,
            local,
            link,
            admission: Rc::new(admission),
            machine,
            seats: Vec::new(),
            deciding: 0,
            connects: Pace::new(CONNECTS),
            stray_acks: Pace::new(STRAY_ACKS),
        }
    }

    fn send(&self, text: &str) {
        self.link.push(Encoded::from_packet(text).frames(), false, self.local.pulse.now());
    }

    fn act(&mut self, effect: Effect, ctx: &mut Ctx<Self>) {
        match effect {
            Effect::None => {}
            Effect::Connect { namespace, .. }
            | Effect::Repeated { namespace }
            | Effect::Refuse { namespace, .. }
                if !self.connects.allows(self.local.pulse.now()) =>
            {
                self.refuse(&namespace, "Too many CONNECTs in one second");
                self.link.end(CloseReason::Flood);
            }
            Effect::Connect { namespace, .. } if self.deciding >= self.config.max_namespaces => {
                self.machine.refused(&namespace);
                self.refuse(&namespace, "Too many namespaces");
            }
            Effect::Connect { namespace, auth } => self.connect(&namespace, auth, ctx),
            Effect::Repeated { .. } => {}
            Effect::Refuse { namespace, why } => self.refuse(&namespace, why),
            Effect::Event { namespace, id, args, attachments } => {
                self.event(&namespace, id, args, attachments)
            }
            Effect::Unreadable { namespace, id, name } => self.unreadable(&namespace, id, &name),
            Effect::Ack { namespace, id, args, attachments } => {
                let is_awaited =
                    self.seat(&namespace).is_some_and(|seat| seat.socket.answered(id, args, attachments));
                if !is_awaited {
                    self.stray_ack();
                }
            }
            Effect::StrayAck => self.stray_ack(),
            Effect::Leave { namespace } => self.leave(&namespace, CloseReason::ClientLeft),
        }
    }

    fn refuse(&self, namespace: &str, why: &str) {
        self.send(&packet::connect_error_text(namespace, why, None));
    }

    fn stray_ack(&mut self) {
        if !self.stray_acks.allows(self.local.pulse.now()) {
            self.link.end(CloseReason::Flood);
        }
    }

    fn connect(&mut self, namespace: &str, auth: Value, ctx: &mut Ctx<Self>) {
        let socket = Socket::new(namespace, self.link.clone(), self.local.clone(), &self.config);
        self.seats.push(Seat { socket: socket.clone(), peer: None });
        let connect = Connect {
            socket: socket.clone(),
            namespace: namespace.into(),
            resume: Resume::from_auth(&auth),
            auth,
            admission: self.admission.clone(),
        };
        self.deciding += 1;
        let answer = wrap_future::<_, Session<Self>>(self.app.connect(connect));
        ctx.spawn(
            answer.map(move |answer, session, _| session.occupant_mut().answer_connect(&socket, answer)),
        );
    }

    /// The application has decided. The client may have left in the meantime.
    fn answer_connect(&mut self, socket: &Socket, answer: Result<Entry<A::Peer>, Refusal>) {
        self.deciding -= 1;
        let still_wanted = self.machine.is_joining(socket.namespace())
            && self.seats.iter().any(|seat| seat.socket.is(socket));
        match answer {
            Ok(mut entry) if !still_wanted => entry.peer.closed(CloseReason::ClientLeft),
            Err(_) if !still_wanted => {}
            Ok(entry) => self.let_in(socket, entry),
            Err(refusal) => self.turn_away(socket, &refusal),
        }
    }

    fn let_in(&mut self, socket: &Socket, entry: Entry<A::Peer>) {
        let Entry { mut peer, pid, recovered } = entry;
        let namespace = socket.namespace();
        let early = self.machine.joined(namespace);
        self.link.clock.borrow_mut().joined();
        self.send(&packet::connect_text(namespace, socket.id().as_str(), pid.as_deref()));
        socket.open(|| peer.connected(), recovered);
        if let Some(seat) = self.seat(namespace) {
            seat.peer = Some(peer);
        }
        for effect in early {
            match effect {
                Effect::Event { namespace, id, args, attachments } => {
                    self.event(&namespace, id, args, attachments);
                }
                Effect::Unreadable { namespace, id, name } => self.unreadable(&namespace, id, &name),
                _ => {}
            }
        }
    }

    fn turn_away(&mut self, socket: &Socket, refusal: &Refusal) {
        let namespace = socket.namespace();
        self.send(&packet::connect_error_text(namespace, &refusal.message, refusal.data.as_ref()));
        self.machine.refused(namespace);
        self.seats.retain(|seat| !seat.socket.is(socket));
        socket.retire();
    }

    fn event(&mut self, namespace: &str, id: Option<u64>, args: Vec<Value>, attachments: Vec<Bytes>) {
        let Some(Seat { socket, peer: Some(peer) }) = self.seat(namespace) else { return };
        let mut args = args.into_iter();
        let name = match args.next() {
            Some(Value::String(name)) => name,
            // Numbers are legal names; no application listens to one.
            other => other.map(|name| name.to_string()).unwrap_or_default(),
        };
        metrics::counter!("socketio_events_total").increment(1);
        let reply = id.map(|id| socket.reply(id));
        peer.event(Event { name, args: args.collect(), attachments }, reply);
    }

    fn unreadable(&mut self, namespace: &str, id: Option<u64>, name: &str) {
        let Some(Seat { socket, peer: Some(peer) }) = self.seat(namespace) else { return };
        metrics::counter!("socketio_events_unreadable_total").increment(1);
        let reply = id.map(|id| socket.reply(id));
        peer.unreadable(name, reply);
    }

    /// The client is out of `namespace`; the transport and the other namespaces live on.
    fn leave(&mut self, namespace: &str, reason: CloseReason) {
        self.machine.left(namespace);
        let Some(at) = self.seats.iter().position(|seat| seat.socket.namespace() == namespace) else {
            return;
        };
        self.seats.swap_remove(at).close(reason);
        if self.seats.is_empty() {
            // The wheel looks at this session at its next heartbeat at the latest.
            self.link.clock.borrow_mut().left(self.local.pulse.now());
        }
    }

    fn seat(&mut self, namespace: &str) -> Option<&mut Seat<A::Peer>> {
        self.seats.iter_mut().find(|seat| seat.socket.namespace() == namespace)
    }
}

impl<P: Peer> Seat<P> {
    fn close(self, reason: CloseReason) {
        self.socket.retire();
        if let Some(mut peer) = self.peer {
            peer.closed(reason);
        }
    }
}

impl<A: App> Occupant for Namespaces<A> {
    fn opened(&mut self) {}

    fn text(&mut self, text: &str, ctx: &mut Ctx<Self>) -> Result<(), CloseReason> {
        let effect = self.machine.text(text)?;
        self.act(effect, ctx);
        Ok(())
    }

    fn binary(&mut self, data: Bytes, ctx: &mut Ctx<Self>) -> Result<(), CloseReason> {
        let effect = self.machine.binary(data)?;
        self.act(effect, ctx);
        Ok(())
    }

    fn dismiss(&mut self, namespace: &str) {
        self.leave(namespace, CloseReason::ServerLeft);
    }

    fn farewell(&mut self) {
        for seat in self.seats.iter().filter(|seat| seat.peer.is_some()) {
            self.send(&packet::disconnect_text(seat.socket.namespace()));
        }
    }

    fn ending(&mut self, reason: CloseReason) {
        let waiting = self.seats.iter().filter(|seat| seat.peer.is_none());
        waiting.for_each(|seat| self.refuse(seat.socket.namespace(), reason.as_str()));
        self.seats.iter_mut().filter_map(|seat| seat.peer.as_mut()).for_each(|peer| peer.ending(reason));
    }

    fn closed(&mut self, reason: CloseReason) {
        let seats = std::mem::take(&mut self.seats);
        // First out of all rooms: that cannot panic, and what is the application's may.
        seats.iter().for_each(|seat| seat.socket.retire());
        for seat in seats {
            let _ = catch_unwind(AssertUnwindSafe(|| seat.close(reason)));
        }
    }
}
