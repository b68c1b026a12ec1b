//! Shorthands of the profiles: an event for one socket, and an answer that the client may not have asked for.

use serde::Serialize;
use socketio::{Encoded, Reply, Socket};

/// Sends an event to the client of `socket`.
pub fn emit(socket: &Socket, name: &str, args: &impl Serialize) {
    match Encoded::event(socket.namespace(), name, args, None) {
        Ok(event) => socket.emit(&event),
        Err(error) => tracing::error!(%error, name, "event not sent"),
    }
}

/// Responses, if the client has asked for it.
pub fn send_ack(reply: Option<Reply>, args: &impl Serialize) {
    if let Some(reply) = reply {
        reply.send(args);
    }
}
