//! One Engine.IO session: an actor of its own on the worker that opened it, so that it outlives any one HTTP request and is
//! not frozen with a transport that cannot write. Transports, on any worker, send it what the client input ([`inbound`],
//! the requests of long-polling in [`polling`], a WebSocket that wants to take over in [`upgrade`]); it keeps the heartbeat
//! and hands messages to its [`handler`].

pub(crate) mod backlog;
pub(crate) mod handler;
mod inbound;
pub(crate) mod polling;
pub(crate) mod rate;
pub(crate) mod registry;
pub(crate) mod transport_state;
pub(crate) mod upgrade;
pub(crate) mod worker;

pub(crate) use inbound::{Inbound, PipeInput};

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    thread,
};

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler};
use bytes::Bytes;

use self::{
    handler::SessionHandler,
    polling::PendingGet,
    rate::{HEARTBEATS, RateLimit},
    transport_state::TransportState,
    upgrade::ProbingPipe,
    worker::{HandlerFactory, Worker},
};
use crate::{
    close::CloseReason,
    connection::{Connection, End},
    encoded::Encoded,
    engine::{frame, handshake::open_packet, packet::Packet, payload},
    tcp::TcpHandle,
};

/// See the module.
pub(crate) struct Session<O: SessionHandler> {
    connection: Rc<Connection>,
    transport: TransportState,
    handler: O,
    worker: WorkerContext<O>,
    /// The GET that waits for something to send.
    pending_get: Option<PendingGet>,
    /// The WebSocket that probes.
    probing_pipe: Option<ProbingPipe>,
    /// The client's packets that apply nothing.
    heartbeat_rate: RateLimit,
}

/// A request that may open a session: what the application learned from it, and whose it is.
pub(crate) struct Admitted<Admission> {
    pub(crate) admission: Admission,
    pub(crate) owner: Option<String>,
}

/// What a session needs of the worker and the process it lives in.
struct WorkerContext<O: SessionHandler> {
    local: Rc<crate::socket::LocalSockets>,
    config: Arc<crate::Config>,
    registry: registry::Registry<O>,
}

impl<O: SessionHandler> Session<O> {
    /// Opens a session on `worker`, carried by `transport` over `tcp`. The open packet is the first thing in its send_queue.
    pub(crate) fn open<H: HandlerFactory<SessionHandler = O>>(
        worker: &Worker<H>,
        transport: TransportState,
        tcp: Arc<TcpHandle>,
        admitted: Admitted<H::Admission>,
    ) -> (Addr<Self>, Rc<Connection>) {
        let Admitted { admission, owner } = admitted;
        let mut made = None;
        let session = Self::create(|ctx| {
            let end = ctx.address().recipient();
            let connection = Rc::new(Connection::new(
                worker.new_sid(),
                end,
                tcp,
                transport.name(),
                &worker.config,
                worker.limits.clone(),
                worker.local.heartbeats.now(),
            ));
            made = Some(connection.clone());
            let handler = worker.host.handler(worker, connection.clone(), admission);
            let worker = WorkerContext {
                local: worker.local.clone(),
                config: worker.config.clone(),
                registry: worker.registry.clone(),
            };
            Self {
                connection,
                transport,
                handler,
                worker,
                pending_get: None,
                probing_pipe: None,
                heartbeat_rate: RateLimit::new(HEARTBEATS),
            }
        });
        metrics::gauge!("socketio_sessions").increment(1);
        let connection = made.expect("create calls its argument before it returns");
        worker.registry.add(&connection.sid, session.clone(), owner);
        worker.opened(&connection);
        (session, connection)
    }

    /// Who speaks over this session.
    pub(crate) fn handler_mut(&mut self) -> &mut O {
        &mut self.handler
    }

    fn now(&self) -> std::time::Instant {
        self.worker.local.heartbeats.now()
    }

    fn push_engine(&self, packet: &str) {
        self.connection.push(Encoded::from_engine(packet).frames(), false, self.now());
    }

    /// The client sent one Engine.IO packet as text.
    fn receive_text(&mut self, text: &str, ctx: &mut Context<Self>) -> Result<(), CloseReason> {
        let packet = Packet::parse(text).map_err(|_| CloseReason::ParseError)?;
        if matches!(packet, Packet::Pong | Packet::Noop) && !self.heartbeat_rate.allows(self.now()) {
            return Err(CloseReason::Flood);
        }
        match packet {
            Packet::Pong => self.connection.timer.borrow_mut().pong(self.now()),
            Packet::Noop => {}
            Packet::Close => return Err(CloseReason::TransportClose),
            Packet::Ping(_) | Packet::Upgrade => return Err(CloseReason::TransportError),
            Packet::Message(message) => {
                fault!("session");
                self.connection.timer.borrow_mut().packet(self.now());
                if !self.connection.ignores_input() {
                    return self.handler.text(message, ctx);
                }
            }
            Packet::Base64(data) => {
                let data = payload::binary(data).ok_or(CloseReason::ParseError)?;
                return self.receive_binary(data.into(), ctx);
            }
        }
        Ok(())
    }

    fn receive_binary(&mut self, data: Bytes, ctx: &mut Context<Self>) -> Result<(), CloseReason> {
        self.connection.timer.borrow_mut().packet(self.now());
        if self.connection.ignores_input() { Ok(()) } else { self.handler.binary(data, ctx) }
    }

    /// Ends everything: the handler, then the transport, then this actor. Only the first call does anything.
    fn end(&mut self, reason: CloseReason, ctx: &mut Context<Self>) {
        if self.connection.is_over() {
            return;
        }
        let (reason, has_queued_frames) = self.finish(reason);
        match self.transport {
            TransportState::WebSocket(_) => ctx.stop(),
            TransportState::Polling { .. } => self.end_polling(reason, has_queued_frames, ctx),
        }
    }

    /// Ends everything but the actor. Responses with the reason that counts, and whether the client has words to read first. A panic
    /// of the handler does not keep the rest from ending.
    fn finish(&mut self, reason: CloseReason) -> (CloseReason, bool) {
        let reason = self.connection.record_end(reason, self.now());
        metrics::counter!("socketio_sessions_closed_total", "reason" => reason.as_str()).increment(1);
        if reason.is_misbehaviour() {
            tracing::info!(reason = reason.as_str(), "session ended");
        } else {
            tracing::debug!(reason = reason.as_str(), "session ended");
        }
        if reason.is_explained() {
            let _ = catch_unwind(AssertUnwindSafe(|| self.handler.ending(reason)));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| self.handler.closed(reason)));
        let has_queued_frames = reason.is_explained() && !self.connection.send_queue.is_empty();
        self.connection.send_queue.finish(frame::close(reason.code(), reason.in_frame()));
        self.worker.local.heartbeats.watch_end(&self.connection);
        if let Some(probing_pipe) = self.probing_pipe.take() {
            probing_pipe.close(CloseReason::ServerClose, None);
        }
        (reason, has_queued_frames)
    }
}

impl<O: SessionHandler> Actor for Session<O> {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        let config = &self.worker.config;
        let upgrades: &[&str] = match self.transport {
            TransportState::Polling { .. } if config.websocket => &["websocket"],
            _ => &[],
        };
        self.push_engine(&open_packet(&self.connection.sid, upgrades, config));
        self.worker.local.heartbeats.watch(&self.connection);
        self.handler.opened();
    }
}

/// A panic drops the actor before [`Session::end`] has run: then everything ends here.
impl<O: SessionHandler> Drop for Session<O> {
    fn drop(&mut self) {
        if !self.connection.is_over() {
            let is_panic = thread::panicking();
            self.finish(if is_panic { CloseReason::ServerError } else { CloseReason::ShuttingDown });
        }
        self.worker.registry.remove(&self.connection.sid);
        metrics::gauge!("socketio_sessions").decrement(1);
    }
}

impl<O: SessionHandler> Handler<End> for Session<O> {
    type Result = ();

    fn handle(&mut self, end: End, ctx: &mut Context<Self>) {
        match end {
            End::Session(reason) => self.end(reason, ctx),
            End::AllNamespaces(_) if self.connection.ended_at().is_some() => {}
            End::AllNamespaces(reason) => {
                self.handler.disconnect_all();
                self.end(reason, ctx);
            }
            End::Namespace(namespace) if !self.connection.is_over() => {
                self.handler.disconnect_namespace(&namespace)
            }
            End::Namespace(_) => {}
            End::Unjoined if self.connection.is_over() || !self.connection.timer.borrow().is_unjoined() => {}
            End::Unjoined => {
                self.end(CloseReason::ConnectTimeout, ctx);
                // Nobody waits for its client to hear of it: that is what there were too many of.
                ctx.stop();
            }
        }
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
