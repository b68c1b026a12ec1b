//! The response that a client asked for with its event.

use bytes::Bytes;
use serde::Serialize;

use super::Socket;
use crate::{Encoded, packet};

/// Responses one event, once. Dropped without an response, it counts as not given: the client's own timeout is then all it has.
pub struct Reply {
    socket: Socket,
    id: u64,
}

impl Reply {
    pub(crate) fn new(socket: Socket, id: u64) -> Self {
        Self { socket, id }
    }

    /// Sends the ack. `args` serialises to an array (a tuple does); when it does not, the failure is logged and nothing is
    /// sent.
    pub fn send(self, args: &impl Serialize) {
        self.send_binary(args, &[]);
    }

    /// Sends the ack with binary arguments, which `args` names by `{"_placeholder":true,"num":N}`.
    pub fn send_binary(self, args: &impl Serialize, attachments: &[Bytes]) {
        match packet::ack_text(self.socket.namespace(), self.id, args, attachments.len()) {
            Ok(text) => self.socket.send(&Encoded::with_attachments(&text, attachments)),
            Err(error) => tracing::error!(%error, "ack not sent"),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.socket.ack_sent();
    }
}
