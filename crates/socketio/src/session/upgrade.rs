//! The upgrade from long-polling to a WebSocket (Engine.IO protocol 4, "Upgrade"): a pipe probes with a send
//! queue of its own, and continues with the session's queue when the client completes the upgrade.

use std::sync::Arc;

use actix::{AsyncContext, Context, Handler, Message};

use super::{
    Session,
    handler::SessionHandler,
    transport_state::{PipeId, PipeRole, ProbeAction, TransportConflict},
};
use crate::{
    close::CloseReason, connection::send_queue::SendQueue, encoded::Encoded, engine::frame,
    request::RequestHead, tcp::TcpHandle,
};

/// A WebSocket that probes for an existing session.
#[derive(Message)]
#[rtype(result = "Result<(), TransportConflict>")]
pub(crate) struct Probe {
    pub(crate) pipe: PipeId,
    /// The queue that the pipe sends from until the upgrade completes.
    pub(crate) send_queue: Arc<SendQueue>,
    pub(crate) tcp: Arc<TcpHandle>,
    /// The head of the request, if heads are kept.
    pub(crate) head: Option<Arc<RequestHead>>,
}

/// A probing pipe.
pub(super) struct ProbingPipe {
    send_queue: Arc<SendQueue>,
    tcp: Arc<TcpHandle>,
    head: Option<Arc<RequestHead>>,
}

impl ProbingPipe {
    /// Closes the pipe and counts the reason. The session is not affected. `echo` is the code of the client's
    /// close frame.
    pub(super) fn close(self, reason: CloseReason, echo: Option<u16>) {
        let close = echo
            .map_or_else(|| frame::close(reason.code(), reason.in_frame()), |code| frame::close(code, ""));
        self.send_queue.finish(close);
        metrics::counter!("socketio_upgrade_probes_closed_total", "reason" => reason.as_str()).increment(1);
        tracing::debug!(reason = reason.as_str(), "upgrade probe closed");
    }
}

impl<T: SessionHandler> Session<T> {
    /// The probing pipe received a text.
    pub(super) fn receive_probe(&mut self, text: &str, ctx: &mut Context<Self>) {
        match self.transport.receive_probe(text) {
            ProbeAction::Answer => {
                let Some(probing_pipe) = &self.probing_pipe else { return };
                probing_pipe.send_queue.push(Encoded::from_engine("3probe").frames(), false, self.now());
                if self.transport.must_release_get() {
                    self.prepare_upgrade(ctx);
                }
            }
            ProbeAction::Upgrade => {
                let Some(ProbingPipe { send_queue, tcp, head }) = self.probing_pipe.take() else { return };
                self.connection.upgraded(tcp, self.now());
                self.connection.set_request(head);
                self.finish_upgrade(ctx);
                send_queue.move_to(self.connection.send_queue.clone());
            }
            ProbeAction::Close => self.end_probe(CloseReason::ServerClose, None),
        }
    }

    /// The probing pipe was closed or must be closed. The session stays on long-polling. See
    /// [`ProbingPipe::close`].
    pub(super) fn end_probe(&mut self, reason: CloseReason, echo: Option<u16>) {
        self.transport.end_probe();
        if let Some(probing_pipe) = self.probing_pipe.take() {
            probing_pipe.close(reason, echo);
        }
    }
}

impl<T: SessionHandler> Handler<Probe> for Session<T> {
    type Result = Result<(), TransportConflict>;

    fn handle(
        &mut self,
        Probe { pipe, send_queue, tcp, head }: Probe,
        ctx: &mut Context<Self>,
    ) -> Self::Result {
        if self.connection.is_over() {
            return Err(TransportConflict::WrongTransport);
        }
        self.transport.start_probe(pipe)?;
        self.probing_pipe = Some(ProbingPipe { send_queue, tcp, head });
        ctx.run_later(self.worker.config.upgrade_timeout, move |session, _| {
            if session.transport.role(pipe) == PipeRole::Probing {
                session.end_probe(CloseReason::ServerClose, None);
            }
        });
        Ok(())
    }
}
