//! Shorthands of the profiles: emit an event to one socket, and send an ack that may not be requested.

use serde::Serialize;
use socketio::{Encoded, Reply, Socket};

/// Sends an event to the client of `socket`.
pub fn emit(socket: &Socket, name: &str, args: &impl Serialize) {
    match Encoded::event(socket.namespace(), name, args, None) {
        Ok(event) => socket.emit(&event),
        Err(error) => tracing::error!(%error, name, "cannot encode the event"),
    }
}

/// Sends an ack, if the client requested one.
pub fn send_ack(reply: Option<Reply>, args: &impl Serialize) {
    if let Some(reply) = reply {
        reply.send(args);
    }
}
