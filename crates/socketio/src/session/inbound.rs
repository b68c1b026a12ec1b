//! What a WebSocket has to say to its session, whether it carries it or probes for it. Sent by the pipe in
//! [`crate::transport`].

use actix::{Context, Handler, Message};
use bytes::Bytes;
use bytestring::ByteString;

use super::{
    Session,
    backlog::Counted,
    carrier::{PipeId, Role},
    occupant::Occupant,
};
use crate::{close::CloseReason, engine::frame};

/// What the client said over a WebSocket.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Inbound {
    pub(crate) pipe: PipeId,
    pub(crate) said: Said,
    /// What of the pipe's backlog this is; none for what cannot pile up.
    pub(crate) counted: Option<Counted>,
}

/// See [`Inbound`].
pub(crate) enum Said {
    /// A text message.
    Text(ByteString),
    /// A binary message.
    Binary(Bytes),
    /// Goodbye, with the code of the client's close frame if it has one.
    Closed(Option<u16>),
    /// The transport broke a rule or ended.
    Failed(CloseReason),
}

impl Said {
    /// How many bytes it carries.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(data) => data.len(),
            Self::Closed(_) | Self::Failed(_) => 0,
        }
    }
}

impl<O: Occupant> Handler<Inbound> for Session<O> {
    type Result = ();

    fn handle(&mut self, Inbound { pipe, said, counted: _until_heard }: Inbound, ctx: &mut Context<Self>) {
        if self.link.is_over() {
            return;
        }
        let heard = match (self.carrier.role(pipe), said) {
            (Role::Carrier, Said::Text(text)) => self.hear_text(&text, ctx),
            (Role::Carrier, Said::Binary(data)) => self.hear_binary(data, ctx),
            (Role::Carrier, Said::Closed(code)) => {
                // The answer carries the same code (RFC 6455 §5.5.1).
                let reason = CloseReason::TransportClose;
                self.link.outbox.finish(frame::close(code.unwrap_or(reason.code()), ""));
                Err(reason)
            }
            (Role::Carrier, Said::Failed(reason)) => Err(reason),
            (Role::Probe, Said::Text(text)) => return self.hear_probe(&text, ctx),
            (Role::Probe, Said::Failed(reason)) => return self.end_probe(reason, None),
            (Role::Probe, Said::Closed(code)) => return self.end_probe(CloseReason::TransportClose, code),
            (Role::Probe, _) => return self.end_probe(CloseReason::ServerClose, None),
            (Role::Stranger, _) => return,
        };
        if let Err(reason) = heard {
            self.end(reason, ctx);
        }
    }
}
