//! From long-polling to a WebSocket (Engine.IO protocol 4, "Upgrade"): a pipe probes with an outbox of its own, and when the
//! client says so, goes on with the session's.

use std::sync::Arc;

use actix::{AsyncContext, Context, Handler, Message};

use super::{
    Session,
    carrier::{Misfit, PipeId, Probed, Role},
    occupant::Occupant,
};
use crate::{close::CloseReason, encoded::Encoded, engine::frame, link::outbox::Outbox, wire::Wire};

/// A WebSocket for a session that exists.
#[derive(Message)]
#[rtype(result = "Result<(), Misfit>")]
pub(crate) struct Probe {
    pub(crate) pipe: PipeId,
    /// What goes out over the pipe until it takes over.
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) wire: Arc<Wire>,
}

/// A pipe that probes, as the session holds it.
pub(super) struct Prober {
    outbox: Arc<Outbox>,
    wire: Arc<Wire>,
}

impl Prober {
    /// Closes the pipe, says why and counts it; the session is not touched. `echo` is the code of the client's own close frame.
    pub(super) fn close(self, reason: CloseReason, echo: Option<u16>) {
        let close = echo
            .map_or_else(|| frame::close(reason.code(), reason.in_frame()), |code| frame::close(code, ""));
        self.outbox.finish(close);
        metrics::counter!("socketio_probes_closed_total", "reason" => reason.as_str()).increment(1);
        tracing::debug!(reason = reason.as_str(), "a probe ended");
    }
}

impl<O: Occupant> Session<O> {
    /// The probing pipe said something.
    pub(super) fn hear_probe(&mut self, text: &str, ctx: &mut Context<Self>) {
        match self.carrier.probe_says(text) {
            Probed::Answer => {
                let Some(prober) = &self.prober else { return };
                prober.outbox.push(Encoded::from_engine("3probe").frames(), false, self.now());
                if self.carrier.must_release() {
                    self.prepare_to_leave(ctx);
                }
            }
            Probed::TakeOver => {
                let Some(Prober { outbox, wire }) = self.prober.take() else { return };
                self.link.upgraded(wire, self.now());
                self.leave_polling(ctx);
                outbox.move_to(self.link.outbox.clone());
            }
            Probed::Close => self.end_probe(CloseReason::ServerClose, None),
        }
    }

    /// The probing pipe is gone or must go; the session goes on polling. See [`Prober::close`].
    pub(super) fn end_probe(&mut self, reason: CloseReason, echo: Option<u16>) {
        self.carrier.end_probe();
        if let Some(prober) = self.prober.take() {
            prober.close(reason, echo);
        }
    }
}

impl<O: Occupant> Handler<Probe> for Session<O> {
    type Result = Result<(), Misfit>;

    fn handle(&mut self, Probe { pipe, outbox, wire }: Probe, ctx: &mut Context<Self>) -> Self::Result {
        if self.link.is_over() {
            return Err(Misfit::Transport);
        }
        self.carrier.start_probe(pipe)?;
        self.prober = Some(Prober { outbox, wire });
        ctx.run_later(self.surroundings.config.upgrade_timeout, move |session, _| {
            if session.carrier.role(pipe) == Role::Probe {
                session.end_probe(CloseReason::ServerClose, None);
            }
        });
        Ok(())
    }
}
