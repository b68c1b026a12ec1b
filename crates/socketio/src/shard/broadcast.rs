//! The one way in which a worker sends an event to many sockets, for [`Operation::Emit`] and
//! [`Operation::Send`].
//!
//! [`Operation::Emit`]: crate::Operation::Emit
//! [`Operation::Send`]: crate::Operation::Send

use super::backpressure::LaggingClients;
use crate::{
    BackpressureToken, Encoded, Room,
    operation::{Emit, Target},
    socket::{LocalSockets, Socket, SocketId},
};

/// The receivers of an event. See [`Target`].
pub(super) struct Receivers<'a> {
    namespace: &'a str,
    rooms: &'a [Room],
    except: &'a [Room],
    except_id: Option<&'a SocketId>,
    within: Option<&'a Room>,
}

/// How an event is sent.
pub(super) struct Delivery<'a> {
    pub(super) packet: &'a Encoded,
    pub(super) volatile: bool,
    pub(super) token: Option<&'a BackpressureToken>,
}

impl<'a> From<&'a Emit> for Receivers<'a> {
    fn from(emit: &'a Emit) -> Self {
        let Emit { namespace, rooms, except, .. } = emit;
        Self { namespace, rooms, except: &[], except_id: except.as_ref(), within: None }
    }
}

impl<'a> From<&'a Target> for Receivers<'a> {
    fn from(target: &'a Target) -> Self {
        let Target { namespace, rooms, except, within } = target;
        Self { namespace, rooms, except, except_id: None, within: within.as_ref() }
    }
}

/// Sends an event. Adds the clients that lag after it to `lagging`.
pub(super) fn broadcast(
    local: &LocalSockets,
    to: &Receivers<'_>,
    Delivery { packet, volatile, token }: Delivery<'_>,
    lagging: &mut LaggingClients,
) {
    let packet = packet.unshared();
    let mut sent = 0;
    let mut deliver = |socket: &Socket| {
        if to.except_id.is_some_and(|id| socket.has_id(id)) {
            return;
        }
        if socket.deliver(&packet, volatile) {
            lagging.add(socket.send_queue(), token);
        }
        sent += 1;
    };
    if to.within.is_some() {
        select(local, to).iter().for_each(deliver);
    } else {
        local.table(to.namespace, |table| {
            table.select_except(to.rooms, to.except, |_, socket| deliver(socket));
        });
    }
    metrics::counter!("socketio_packets_delivered_total").increment(sent);
}

/// The receivers on this worker.
pub(super) fn select(local: &LocalSockets, to: &Receivers<'_>) -> Vec<Socket> {
    let mut sockets = Vec::new();
    local.table(to.namespace, |table| {
        table.select_except(to.rooms, to.except, |_, socket| sockets.push(socket.clone()));
    });
    if let Some(room) = to.within {
        sockets.retain(|socket| socket.is_in(room));
    }
    sockets
}
