//! Messages from a WebSocket to its session, from an active or a probing pipe. Sent by the pipe in
//! [`crate::transport`].

use actix::{Context, Handler, Message};
use bytes::Bytes;
use bytestring::ByteString;

use super::{
    Session,
    backlog::BacklogPermit,
    handler::SessionHandler,
    transport_state::{PipeId, PipeRole},
};
use crate::{close::CloseReason, engine::frame};

/// A message from a pipe.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Inbound {
    pub(crate) pipe: PipeId,
    pub(crate) input: PipeInput,
    /// The message's share of the pipe's backlog. `None` for messages that cannot accumulate.
    pub(crate) permit: Option<BacklogPermit>,
}

/// The content of an [`Inbound`] message.
pub(crate) enum PipeInput {
    /// A text message.
    Text(ByteString),
    /// A binary message.
    Binary(Bytes),
    /// A close frame, with its code if it has one.
    Closed(Option<u16>),
    /// The transport violated its protocol, or was closed.
    Failed(CloseReason),
}

impl PipeInput {
    /// The size of the content in bytes.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(data) => data.len(),
            Self::Closed(_) | Self::Failed(_) => 0,
        }
    }
}

impl<T: SessionHandler> Handler<Inbound> for Session<T> {
    type Result = ();

    fn handle(&mut self, Inbound { pipe, input, permit: _permit }: Inbound, ctx: &mut Context<Self>) {
        if self.connection.is_over() {
            return;
        }
        let received = match (self.transport.role(pipe), input) {
            (PipeRole::Active, PipeInput::Text(text)) => self.receive_text(&text, ctx),
            (PipeRole::Active, PipeInput::Binary(data)) => self.receive_binary(data, ctx),
            (PipeRole::Active, PipeInput::Closed(code)) => {
                // The answer contains the same code (RFC 6455 §5.5.1).
                let reason = CloseReason::TransportClose;
                self.connection.send_queue.finish(frame::close(code.unwrap_or(reason.code()), ""));
                Err(reason.into())
            }
            (PipeRole::Active, PipeInput::Failed(reason)) => Err(reason.into()),
            (PipeRole::Probing, PipeInput::Text(text)) => return self.receive_probe(&text, ctx),
            (PipeRole::Probing, PipeInput::Failed(reason)) => return self.end_probe(reason, None),
            (PipeRole::Probing, PipeInput::Closed(code)) => {
                return self.end_probe(CloseReason::TransportClose, code);
            }
            (PipeRole::Probing, _) => return self.end_probe(CloseReason::ServerClose, None),
            (PipeRole::Unrelated, _) => return,
        };
        if let Err(reason) = received {
            self.end(reason, ctx);
        }
    }
}
