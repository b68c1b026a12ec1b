//! One Engine.IO session: an actor of its own on the worker that opened it, so that it outlives any one HTTP request and is
//! not frozen with a transport that cannot write. Transports, on any worker, send it what the client said ([`inbound`],
//! the requests of long-polling in [`polling`], a WebSocket that wants to take over in [`upgrade`]); it keeps the heartbeat
//! and hands messages to its [`occupant`].

pub(crate) mod backlog;
pub(crate) mod carrier;
pub(crate) mod host;
mod inbound;
pub(crate) mod occupant;
pub(crate) mod pace;
pub(crate) mod polling;
pub(crate) mod registry;
pub(crate) mod upgrade;

pub(crate) use inbound::{Inbound, Said};

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    thread,
};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler};
use bytes::Bytes;

use self::{
    carrier::Carrier,
    host::{Host, Worker},
    occupant::Occupant,
    pace::{HEARTBEATS, Pace},
    polling::Waiting,
    upgrade::Prober,
};
use crate::{
    close::CloseReason,
    encoded::Encoded,
    engine::{frame, handshake::open_packet, packet::Packet, payload},
    link::{End, Link},
    wire::Wire,
};

/// See the module.
pub(crate) struct Session<O: Occupant> {
    link: Rc<Link>,
    carrier: Carrier,
    occupant: O,
    surroundings: Surroundings<O>,
    /// The GET that waits for something to send.
    waiting: Option<Waiting>,
    /// The WebSocket that probes.
    prober: Option<Prober>,
    /// The client's packets that carry nothing.
    beats: Pace,
}

/// A request that may open a session: what the application learned from it, and whose it is.
pub(crate) struct Admitted<Admission> {
    pub(crate) admission: Admission,
    pub(crate) owner: Option<String>,
}

/// What a session needs of the worker and the process it lives in.
struct Surroundings<O: Occupant> {
    local: Rc<crate::socket::Local>,
    config: Arc<crate::Config>,
    registry: registry::Registry<O>,
}

impl<O: Occupant> Session<O> {
    /// Opens a session on `worker`, carried by `carrier` over `wire`. The open packet is the first thing in its outbox.
    pub(crate) fn open<H: Host<Occupant = O>>(
        worker: &Worker<H>,
        carrier: Carrier,
        wire: Arc<Wire>,
        admitted: Admitted<H::Admission>,
    ) -> (Addr<Self>, Rc<Link>) {
        let Admitted { admission, owner } = admitted;
        let mut made = None;
        let session = Self::create(|ctx| {
            let end = ctx.address().recipient();
            let link = Rc::new(Link::new(
                worker.new_sid(),
                end,
                wire,
                carrier.name(),
                &worker.config,
                worker.limits.clone(),
                worker.local.pulse.now(),
            ));
            made = Some(link.clone());
            let occupant = worker.host.occupant(worker, link.clone(), admission);
            let surroundings = Surroundings {
                local: worker.local.clone(),
                config: worker.config.clone(),
                registry: worker.registry.clone(),
            };
            Self {
                link,
                carrier,
                occupant,
                surroundings,
                waiting: None,
                prober: None,
                beats: Pace::new(HEARTBEATS),
            }
        });
        metrics::gauge!("socketio_sessions").increment(1);
        let link = made.expect("create calls its argument before it returns");
        worker.registry.add(&link.sid, session.clone(), owner);
        worker.opened(&link);
        (session, link)
    }

    /// Who speaks over this session.
    pub(crate) fn occupant_mut(&mut self) -> &mut O {
        &mut self.occupant
    }

    fn now(&self) -> std::time::Instant {
        self.surroundings.local.pulse.now()
    }

    fn push_engine(&self, packet: &str) {
        self.link.push(Encoded::from_engine(packet).frames(), false, self.now());
    }

    /// The client sent one Engine.IO packet as text.
    fn hear_text(&mut self, text: &str, ctx: &mut Context<Self>) -> Result<(), CloseReason> {
        let packet = Packet::parse(text).map_err(|_| CloseReason::ParseError)?;
        if matches!(packet, Packet::Pong | Packet::Noop) && !self.beats.allows(self.now()) {
            return Err(CloseReason::Flood);
        }
        match packet {
            Packet::Pong => self.link.clock.borrow_mut().pong(self.now()),
            Packet::Noop => {}
            Packet::Close => return Err(CloseReason::TransportClose),
            Packet::Ping(_) | Packet::Upgrade => return Err(CloseReason::TransportError),
            Packet::Message(message) => {
                fault!("session");
                self.link.clock.borrow_mut().packet(self.now());
                if !self.link.is_deaf() {
                    return self.occupant.text(message, ctx);
                }
            }
            Packet::Base64(data) => {
                let data = payload::binary(data).ok_or(CloseReason::ParseError)?;
                return self.hear_binary(data.into(), ctx);
            }
        }
        Ok(())
    }

    fn hear_binary(&mut self, data: Bytes, ctx: &mut Context<Self>) -> Result<(), CloseReason> {
        self.link.clock.borrow_mut().packet(self.now());
        if self.link.is_deaf() { Ok(()) } else { self.occupant.binary(data, ctx) }
    }

    /// Ends everything: the occupant, then the transport, then this actor. Only the first call does anything.
    fn end(&mut self, reason: CloseReason, ctx: &mut Context<Self>) {
        if self.link.is_over() {
            return;
        }
        let (reason, has_words) = self.take_leave(reason);
        match self.carrier {
            Carrier::WebSocket(_) => ctx.stop(),
            Carrier::Polling { .. } => self.end_polling(reason, has_words, ctx),
        }
    }

    /// Ends everything but the actor. Answers with the reason that counts, and whether the client has words to read first. A panic
    /// of the occupant does not keep the rest from ending.
    fn take_leave(&mut self, reason: CloseReason) -> (CloseReason, bool) {
        let reason = self.link.note_end(reason, self.now());
        metrics::counter!("socketio_closed_total", "reason" => reason.as_str()).increment(1);
        if reason.is_misbehaviour() {
            tracing::info!(reason = reason.as_str(), "session ended");
        } else {
            tracing::debug!(reason = reason.as_str(), "session ended");
        }
        if reason.is_explained() {
            let _ = catch_unwind(AssertUnwindSafe(|| self.occupant.ending(reason)));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| self.occupant.closed(reason)));
        let has_words = reason.is_explained() && !self.link.outbox.is_empty();
        self.link.outbox.finish(frame::close(reason.code(), reason.in_frame()));
        self.surroundings.local.pulse.watch_end(&self.link);
        if let Some(prober) = self.prober.take() {
            prober.close(CloseReason::ServerClose, None);
        }
        (reason, has_words)
    }
}

impl<O: Occupant> Actor for Session<O> {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        let config = &self.surroundings.config;
        let upgrades: &[&str] = match self.carrier {
            Carrier::Polling { .. } if config.websocket => &["websocket"],
            _ => &[],
        };
        self.push_engine(&open_packet(&self.link.sid, upgrades, config));
        self.surroundings.local.pulse.watch(&self.link);
        self.occupant.opened();
    }
}

/// A panic drops the actor before [`Session::end`] has run: then everything ends here.
impl<O: Occupant> Drop for Session<O> {
    fn drop(&mut self) {
        if !self.link.is_over() {
            let is_panic = thread::panicking();
            self.take_leave(if is_panic { CloseReason::ServerError } else { CloseReason::ShuttingDown });
        }
        self.surroundings.registry.remove(&self.link.sid);
        metrics::gauge!("socketio_sessions").decrement(1);
    }
}

impl<O: Occupant> Handler<End> for Session<O> {
    type Result = ();

    fn handle(&mut self, end: End, ctx: &mut Context<Self>) {
        match end {
            End::Session(reason) => self.end(reason, ctx),
            End::Everything(_) if self.link.ended_at().is_some() => {}
            End::Everything(reason) => {
                self.occupant.farewell();
                self.end(reason, ctx);
            }
            End::Namespace(namespace) if !self.link.is_over() => self.occupant.dismiss(&namespace),
            End::Namespace(_) => {}
            End::Unjoined if self.link.is_over() || !self.link.clock.borrow().is_unjoined() => {}
            End::Unjoined => {
                self.end(CloseReason::ConnectTimeout, ctx);
                // Nobody waits for its client to hear of it: that is what there were too many of.
                ctx.stop();
            }
        }
    }
}

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;
