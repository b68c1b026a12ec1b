//! The ack that a client requested with its event.

use bytes::Bytes;
use serde::Serialize;

use super::Socket;
use crate::{Encoded, packet};

/// Sends the ack of one event, once. If it is dropped, no ack is sent, and the client relies on its own
/// timeout.
pub struct Reply {
    socket: Socket,
    id: u64,
}

impl Reply {
    pub(crate) fn new(socket: Socket, id: u64) -> Self {
        Self { socket, id }
    }

    /// Sends the ack. `args` must serialise to an array (a tuple does). Otherwise the error is logged and no
    /// ack is sent.
    pub fn send(self, args: &impl Serialize) {
        self.send_binary(args, &[]);
    }

    /// Sends the ack with binary arguments. `args` refers to them by `{"_placeholder":true,"num":N}`.
    pub fn send_binary(self, args: &impl Serialize, attachments: &[Bytes]) {
        match packet::ack_text(self.socket.namespace(), self.id, args, attachments.len()) {
            Ok(text) => self.socket.send(&Encoded::with_attachments(&text, attachments)),
            Err(error) => {
                tracing::error!(namespace = self.socket.namespace(), %error, "an ack cannot be serialized and is not sent; the client waits until its timeout")
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.socket.ack_sent();
    }
}
