//! One Engine.IO session: an actor on the worker that opened it, independent of any HTTP request and of a
//! transport that cannot write. Transports, on any worker, send it the client's messages ([`inbound`]), the
//! requests of long-polling ([`polling`]) and WebSockets that probe ([`upgrade`]). It runs the heartbeat and
//! passes messages to its [`handler`].

pub(crate) mod backlog;
pub(crate) mod handler;
mod inbound;
pub(crate) mod poll_limit;
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

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, SpawnHandle};
use bytes::Bytes;

use self::{
    handler::SessionHandler,
    polling::PendingGet,
    rate::{MAX_HEARTBEATS_PER_SECOND, RateLimit},
    transport_state::TransportState,
    upgrade::ProbingPipe,
    worker::{HandlerFactory, Worker},
};
use crate::{
    close::CloseReason,
    connection::{Connection, EndRequest},
    encoded::Encoded,
    engine::{frame, handshake::open_packet, packet::Packet, payload},
    request::RequestHead,
    tcp::TcpHandle,
};

/// The actor of one session.
pub(crate) struct Session<T: SessionHandler> {
    connection: Rc<Connection>,
    transport: TransportState,
    handler: T,
    worker: WorkerContext<T>,
    /// The pending GET.
    pending_get: Option<PendingGet>,
    /// The head of the POST in progress, if heads are kept.
    post_head: Option<Arc<RequestHead>>,
    /// Timer that runs after an aborted GET until the next GET.
    absence: Option<SpawnHandle>,
    /// The probing WebSocket.
    probing_pipe: Option<ProbingPipe>,
    /// The rate of the client's packets without content.
    heartbeat_rate: RateLimit,
}

/// The admission of a request that opens a session, and the request's owner.
pub(crate) struct Admitted<Admission> {
    /// The id of its session.
    pub(crate) sid: Rc<str>,
    pub(crate) admission: Admission,
    pub(crate) owner: Option<String>,
    /// The head of the request, if heads are kept.
    pub(crate) head: Option<Arc<RequestHead>>,
}

/// Why a session ends because of a packet of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Violation {
    reason: CloseReason,
    /// Whether the handler refused a message. Then a client on long-polling receives what is queued, and a
    /// close packet. After a packet that violates Engine.IO itself it receives neither, as in the reference
    /// implementation.
    is_of_message: bool,
}

impl Violation {
    /// The handler refused a message.
    fn of_message(reason: CloseReason) -> Self {
        Self { reason, is_of_message: true }
    }
}

impl From<CloseReason> for Violation {
    fn from(reason: CloseReason) -> Self {
        Self { reason, is_of_message: false }
    }
}

/// The parts of the worker and the process that a session uses.
struct WorkerContext<T: SessionHandler> {
    local: Rc<crate::socket::LocalSockets>,
    config: Arc<crate::Config>,
    registry: registry::Registry<T>,
}

impl<T: SessionHandler> Session<T> {
    /// Opens a session on `worker` with a transport over `tcp`. The open packet is the first frame in its
    /// send queue.
    pub(crate) fn open<H: HandlerFactory<Handler = T>>(
        worker: &Worker<H>,
        transport: TransportState,
        tcp: Arc<TcpHandle>,
        admitted: Admitted<H::Admission>,
    ) -> (Addr<Self>, Rc<Connection>) {
        let Admitted { sid, admission, owner, head } = admitted;
        let mut opened = None;
        let session = Self::create(|ctx| {
            let end = ctx.address().recipient();
            let connection = Connection::new(
                sid,
                end,
                tcp,
                transport.name(),
                &worker.config,
                worker.limits.clone(),
                worker.local.heartbeats.now(),
            );
            let connection = Rc::new(connection.with_handshake(head));
            opened = Some(connection.clone());
            let handler = worker.factory.handler(worker, connection.clone(), admission);
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
                post_head: None,
                absence: None,
                probing_pipe: None,
                heartbeat_rate: RateLimit::new(MAX_HEARTBEATS_PER_SECOND),
            }
        });
        metrics::gauge!("socketio_sessions").increment(1);
        let connection = opened.expect("create calls its argument before it returns");
        worker.registry.add(&connection.sid, session.clone(), owner);
        worker.opened(&connection);
        (session, connection)
    }

    /// The handler of this session.
    pub(crate) fn handler_mut(&mut self) -> &mut T {
        &mut self.handler
    }

    fn now(&self) -> std::time::Instant {
        self.worker.local.heartbeats.now()
    }

    fn push_engine(&self, packet: &str) {
        self.connection.push(Encoded::from_engine(packet).frames(), false, self.now());
    }

    /// The client sent one Engine.IO packet as text.
    fn receive_text(&mut self, text: &str, ctx: &mut Context<Self>) -> Result<(), Violation> {
        let packet = Packet::parse(text).map_err(|_| CloseReason::ParseError)?;
        if matches!(packet, Packet::Pong | Packet::Noop) && !self.heartbeat_rate.allows(self.now()) {
            return Err(CloseReason::Flood.into());
        }
        match packet {
            Packet::Pong => self.connection.timer.borrow_mut().on_pong(self.now()),
            Packet::Noop => {}
            Packet::Close => return Err(CloseReason::TransportClose.into()),
            Packet::Ping(_) | Packet::Upgrade => return Err(CloseReason::TransportError.into()),
            Packet::Message(message) => {
                fault!("session");
                self.connection.timer.borrow_mut().on_packet(self.now());
                if !self.connection.ignores_input() {
                    return self.handler.text(message, ctx).map_err(Violation::of_message);
                }
            }
            Packet::Base64(data) => {
                let data = payload::binary(data).ok_or(CloseReason::ParseError)?;
                return self.receive_binary(data.into(), ctx);
            }
        }
        Ok(())
    }

    fn receive_binary(&mut self, data: Bytes, ctx: &mut Context<Self>) -> Result<(), Violation> {
        self.connection.timer.borrow_mut().on_packet(self.now());
        if self.connection.ignores_input() {
            return Ok(());
        }
        self.handler.binary(data, ctx).map_err(Violation::of_message)
    }

    /// Ends the handler, then the transport, then this actor. Only the first call takes effect.
    fn end(&mut self, reason: impl Into<Violation>, ctx: &mut Context<Self>) {
        if self.connection.is_over() {
            return;
        }
        let violation: Violation = reason.into();
        let (reason, has_queued_frames) = self.finish(violation);
        match self.transport {
            TransportState::WebSocket(_) => ctx.stop(),
            TransportState::Polling { .. } => {
                self.end_polling(reason, has_queued_frames || violation.is_of_message, ctx);
            }
        }
    }

    /// Ends everything but the actor. Returns the first reason, and whether packets are queued that the
    /// client should receive first. A panic of the handler does not prevent the rest.
    fn finish(&mut self, Violation { reason, is_of_message }: Violation) -> (CloseReason, bool) {
        let reason = self.connection.record_end(reason, self.now());
        let is_announced = reason.is_announced(is_of_message);
        metrics::counter!("socketio_sessions_closed_total", "reason" => reason.as_str()).increment(1);
        if reason.is_misbehaviour() {
            tracing::info!(reason = reason.as_str(), "session ended");
        } else {
            tracing::debug!(reason = reason.as_str(), "session ended");
        }
        if is_announced {
            let _ = catch_unwind(AssertUnwindSafe(|| self.handler.ending(reason)));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| self.handler.closed(reason)));
        let has_queued_frames = is_announced && !self.connection.send_queue.is_empty();
        self.connection.send_queue.finish(frame::close(reason.code(), reason.in_frame()));
        self.worker.local.heartbeats.watch_end(&self.connection);
        if let Some(probing_pipe) = self.probing_pipe.take() {
            probing_pipe.close(CloseReason::ServerClose, None);
        }
        (reason, has_queued_frames)
    }
}

impl<T: SessionHandler> Actor for Session<T> {
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

/// A panic drops the actor before [`Session::end`] has run. Then the session ends here.
impl<T: SessionHandler> Drop for Session<T> {
    fn drop(&mut self) {
        if !self.connection.is_over() {
            let is_panic = thread::panicking();
            let reason = if is_panic { CloseReason::ServerError } else { CloseReason::ShuttingDown };
            self.finish(reason.into());
        }
        self.worker.registry.remove(&self.connection.sid);
        metrics::gauge!("socketio_sessions").decrement(1);
    }
}

impl<T: SessionHandler> Handler<EndRequest> for Session<T> {
    type Result = ();

    fn handle(&mut self, end: EndRequest, ctx: &mut Context<Self>) {
        match end {
            EndRequest::Session(reason) => self.end(reason, ctx),
            EndRequest::AllNamespaces(_) if self.connection.ended_at().is_some() => {}
            EndRequest::AllNamespaces(reason) => {
                self.handler.disconnect_all();
                self.end(reason, ctx);
            }
            EndRequest::Namespace(namespace) if !self.connection.is_over() => {
                self.handler.disconnect_namespace(&namespace)
            }
            EndRequest::Namespace(_) => {}
            EndRequest::Unjoined
                if self.connection.is_over() || !self.connection.timer.borrow().is_unjoined() => {}
            EndRequest::Unjoined => {
                self.end(CloseReason::ConnectTimeout, ctx);
                // The actor does not wait until the client has received the close packet: there are too many
                // such sessions.
                ctx.stop();
            }
        }
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
