//! Queries to the sockets of one worker: the messages behind [`crate::query`].

use std::{sync::Arc, time::Duration};

use actix::{Handler, Message, ResponseFuture};
use futures_util::future::join_all;
use serde_json::Value;

use super::{Shard, backpressure::LaggingClients};
use crate::{
    ack::{AckError, Response},
    encoded::Encoded,
    operation::{SocketInfo, Target},
    socket::{LocalSockets, Socket},
};

/// The sockets of a target on this worker.
#[derive(Debug, Message)]
#[rtype(result = "Vec<SocketInfo>")]
pub(crate) struct FetchSockets(pub(crate) Target);

/// Sends an event to the sockets of a target on this worker and collects their acks.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<Result<Response, AckError>>")]
pub(crate) struct EmitWithAck {
    pub(crate) to: Target,
    pub(crate) name: Arc<str>,
    pub(crate) args: Arc<[Value]>,
    pub(crate) timeout: Duration,
}

impl Handler<FetchSockets> for Shard {
    type Result = Vec<SocketInfo>;

    fn handle(&mut self, FetchSockets(target): FetchSockets, _: &mut Self::Context) -> Self::Result {
        let sockets = selected(&self.local, &target);
        sockets.iter().map(|socket| SocketInfo { id: socket.id(), rooms: socket.rooms() }).collect()
    }
}

impl Handler<EmitWithAck> for Shard {
    type Result = ResponseFuture<Vec<Result<Response, AckError>>>;

    fn handle(&mut self, request: EmitWithAck, _: &mut Self::Context) -> Self::Result {
        let sockets = selected(&self.local, &request.to);
        Box::pin(async move {
            let args = &&*request.args;
            join_all(sockets.iter().map(|socket| socket.emit_with_ack(&request.name, args, request.timeout)))
                .await
        })
    }
}

/// The sockets of a target on this worker.
fn selected(local: &LocalSockets, target: &Target) -> Vec<Socket> {
    let mut sockets = Vec::new();
    local.table(&target.namespace, |table| {
        table.select_except(&target.rooms, &target.except, |_, socket| sockets.push(socket.clone()));
    });
    if let Some(room) = &target.within {
        sockets.retain(|socket| socket.is_in(room));
    }
    sockets
}

/// Sends an event to a target. Adds the clients that lag after it to `lagging`.
pub(super) fn send(
    local: &LocalSockets,
    to: &Target,
    packet: &Encoded,
    volatile: bool,
    lagging: &mut LaggingClients,
) {
    let packet = packet.unshared();
    let mut sent = 0;
    let mut deliver = |socket: &Socket| {
        if socket.deliver(&packet, volatile) {
            lagging.add(socket.send_queue(), None);
        }
        sent += 1;
    };
    if to.within.is_some() {
        selected(local, to).iter().for_each(deliver);
    } else {
        local.table(&to.namespace, |table| {
            table.select_except(&to.rooms, &to.except, |_, socket| deliver(socket));
        });
    }
    metrics::counter!("socketio_packets_delivered_total").increment(sent);
}
