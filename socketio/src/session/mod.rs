//! One Engine.IO session: an actor of its own on the worker that accepted it, so that it outlives any one HTTP request and
//! is not frozen with a transport that cannot write. It drives the [`machine`] and the application's peers; the transport
//! sends it what the client said ([`Inbound`]).

pub(crate) mod clock;
pub(crate) mod link;
pub(crate) mod machine;
pub(crate) mod outbox;

use std::rc::Rc;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use bytes::Bytes;
use bytestring::ByteString;
use serde_json::Value;

use self::{
    link::Link,
    machine::{Effect, Machine},
};
use crate::{
    app::{App, Connect, Event, Peer, Refusal},
    close::CloseReason,
    encoded::Encoded,
    engine::handshake::{new_id, open_packet},
    packet,
    server::Worker,
    socket::Socket,
    transport::{frame, wire::Wire},
};

/// What the client said, as its transport understood it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Inbound {
    /// A text message.
    Text(ByteString),
    /// A binary message.
    Binary(Bytes),
    /// The transport broke a rule or ended.
    Failed(CloseReason),
}

/// Something must end that the session's actor does not yet know of.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) enum End {
    /// Everything.
    Session(CloseReason),
    /// The application put the client out of this namespace; the packet that says so is on its way.
    Namespace(String),
}

/// See the module.
pub(crate) struct Session<A: App> {
    link: Rc<Link>,
    worker: Rc<Worker<A>>,
    admission: Rc<A::Admission>,
    machine: Machine,
    /// The namespaces the client asked for; without a peer while the application decides.
    seats: Vec<Seat<A::Peer>>,
}

struct Seat<P> {
    socket: Socket,
    peer: Option<P>,
}

impl<A: App> Session<A> {
    /// Opens a session on `worker`, over a transport on `wire`. The open packet is the first thing in its outbox.
    pub(crate) fn open(
        worker: &Rc<Worker<A>>,
        wire: Option<Wire>,
        admission: A::Admission,
    ) -> (Addr<Self>, Rc<Link>) {
        let mut made = None;
        let session = Self::create(|ctx| {
            let end = ctx.address().recipient();
            let link = Rc::new(Link::new(new_id().into(), end, wire, &worker.config, worker.local.now()));
            made = Some(link.clone());
            let machine = Machine::new(&worker.config);
            Self { link, worker: worker.clone(), admission: Rc::new(admission), machine, seats: Vec::new() }
        });
        (session, made.expect("create calls its argument before it returns"))
    }

    fn send(&self, text: &str) {
        self.link.push(Encoded::from_packet(text).frames(), false, self.worker.local.now());
    }

    fn hear(&mut self, heard: Result<Effect, CloseReason>, ctx: &mut Context<Self>) {
        match heard {
            Ok(Effect::Pong) => self.link.clock.borrow_mut().pong(self.worker.local.now()),
            Ok(effect) => {
                self.link.clock.borrow_mut().packet(self.worker.local.now());
                self.act(effect, ctx);
            }
            Err(reason) => self.end(reason, ctx),
        }
    }

    fn act(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::None | Effect::Pong => {}
            Effect::Close => self.end(CloseReason::TransportClose, ctx),
            Effect::Connect { namespace, auth } => self.connect(&namespace, auth, ctx),
            Effect::Refuse { namespace } => {
                self.send(&packet::connect_error_text(&namespace, "Too many namespaces", None));
            }
            Effect::Event { namespace, id, args, attachments } => {
                self.event(&namespace, id, args, attachments)
            }
            Effect::Ack { namespace, id, args, attachments } => {
                if let Some(seat) = self.seat(&namespace) {
                    seat.socket.answered(id, args, attachments);
                }
            }
            Effect::Leave { namespace } => self.leave(&namespace, CloseReason::ClientLeft),
        }
    }

    fn connect(&mut self, namespace: &str, auth: Value, ctx: &mut Context<Self>) {
        let socket =
            Socket::new(namespace, self.link.clone(), self.worker.local.clone(), &self.worker.config);
        self.seats.push(Seat { socket: socket.clone(), peer: None });
        let connect = Connect {
            socket: socket.clone(),
            namespace: namespace.into(),
            auth,
            admission: self.admission.clone(),
        };
        let answer = self.worker.app.connect(connect).into_actor(self);
        ctx.spawn(answer.map(move |answer, session, _| session.answer_connect(&socket, answer)));
    }

    /// The application has decided. The client may have left in the meantime.
    fn answer_connect(&mut self, socket: &Socket, answer: Result<A::Peer, Refusal>) {
        let namespace = socket.namespace();
        let still_wanted = self.machine.is_joining(namespace)
            && self.seats.iter().any(|seat| seat.socket.id() == socket.id());
        match answer {
            Ok(mut peer) if !still_wanted => peer.closed(CloseReason::ClientLeft),
            Err(_) if !still_wanted => {}
            Ok(mut peer) => {
                self.machine.joined(namespace);
                self.link.clock.borrow_mut().joined();
                self.send(&packet::connect_text(namespace, socket.id().as_str(), None));
                socket.open(|| peer.connected());
                if let Some(seat) = self.seat(namespace) {
                    seat.peer = Some(peer);
                }
            }
            Err(refusal) => {
                self.send(&packet::connect_error_text(namespace, &refusal.message, refusal.data.as_ref()));
                self.machine.refused(namespace);
                self.seats.retain(|seat| seat.socket.id() != socket.id());
                socket.retire();
            }
        }
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

    /// The client is out of `namespace`; the transport and the other namespaces live on.
    fn leave(&mut self, namespace: &str, reason: CloseReason) {
        self.machine.left(namespace);
        let Some(at) = self.seats.iter().position(|seat| seat.socket.namespace() == namespace) else {
            return;
        };
        let seat = self.seats.swap_remove(at);
        seat.socket.retire();
        if let Some(mut peer) = seat.peer {
            peer.closed(reason);
        }
    }

    /// Ends everything: the peers, then the transport, then this actor.
    fn end(&mut self, reason: CloseReason, ctx: &mut Context<Self>) {
        let reason = self.link.note_end(reason, self.worker.local.now());
        metrics::counter!("socketio_closed_total", "reason" => reason.as_str()).increment(1);
        tracing::debug!(reason = reason.as_str(), "session ended");
        for mut seat in std::mem::take(&mut self.seats) {
            seat.socket.retire();
            if let Some(peer) = &mut seat.peer {
                peer.closed(reason);
            }
        }
        self.link.outbox.finish(frame::close(reason.code()));
        self.worker.local.watch_end(&self.link);
        ctx.stop();
    }

    fn seat(&mut self, namespace: &str) -> Option<&mut Seat<A::Peer>> {
        self.seats.iter_mut().find(|seat| seat.socket.namespace() == namespace)
    }
}

impl<A: App> Actor for Session<A> {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        metrics::gauge!("socketio_sessions").increment(1);
        let open = open_packet(&self.link.sid, &[], &self.worker.config);
        self.link.push(Encoded::from_engine(&open).frames(), false, self.worker.local.now());
        self.worker.local.watch(&self.link);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        metrics::gauge!("socketio_sessions").decrement(1);
    }
}

impl<A: App> Handler<Inbound> for Session<A> {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, ctx: &mut Context<Self>) {
        if self.link.ended_at().is_some() {
            return;
        }
        let heard = match inbound {
            Inbound::Text(text) => self.machine.text(&text),
            Inbound::Binary(data) => self.machine.binary(data),
            Inbound::Failed(reason) => Err(reason),
        };
        self.hear(heard, ctx);
    }
}

impl<A: App> Handler<End> for Session<A> {
    type Result = ();

    fn handle(&mut self, end: End, ctx: &mut Context<Self>) {
        match end {
            End::Session(reason) => self.end(reason, ctx),
            End::Namespace(namespace) => self.leave(&namespace, CloseReason::ServerLeft),
        }
    }
}

#[cfg(test)]
mod tests;
