//! The questions of [`crate::query`] to one worker.

use std::{sync::Arc, time::Duration};

use actix::{Handler, Message, ResponseFuture};
use futures_util::future::join_all;
use serde_json::Value;

use super::{Shard, pace::Crowd};
use crate::{
    answer::{AckError, Answer},
    encoded::Encoded,
    fanout::{Found, Selection},
    socket::{Local, Socket},
};

/// Who of them is here?
#[derive(Debug, Message)]
#[rtype(result = "Vec<Found>")]
pub(crate) struct Fetch(pub(crate) Selection);

/// Send them this, and what do they answer?
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<Result<Answer, AckError>>")]
pub(crate) struct Ask {
    pub(crate) to: Selection,
    pub(crate) name: Arc<str>,
    pub(crate) args: Arc<[Value]>,
    pub(crate) timeout: Duration,
}

impl Handler<Fetch> for Shard {
    type Result = Vec<Found>;

    fn handle(&mut self, Fetch(selection): Fetch, _: &mut Self::Context) -> Self::Result {
        let sockets = selected(&self.local, &selection);
        sockets.iter().map(|socket| Found { id: socket.id(), rooms: socket.rooms() }).collect()
    }
}

impl Handler<Ask> for Shard {
    type Result = ResponseFuture<Vec<Result<Answer, AckError>>>;

    fn handle(&mut self, ask: Ask, _: &mut Self::Context) -> Self::Result {
        let sockets = selected(&self.local, &ask.to);
        Box::pin(async move {
            let args = &&*ask.args;
            join_all(sockets.iter().map(|socket| socket.emit_with_ack(&ask.name, args, ask.timeout))).await
        })
    }
}

/// The sockets of a selection that are here.
fn selected(local: &Local, selection: &Selection) -> Vec<Socket> {
    let mut sockets = Vec::new();
    local.table(&selection.namespace, |table| {
        table.select_except(&selection.rooms, &selection.except, |_, socket| sockets.push(socket.clone()));
    });
    if let Some(room) = &selection.within {
        sockets.retain(|socket| socket.is_in(room));
    }
    sockets
}

/// Sends an event to a selection; `crowd` gathers the outboxes that fill up with it.
pub(super) fn send(local: &Local, to: &Selection, packet: &Encoded, volatile: bool, crowd: &mut Crowd) {
    let packet = packet.unshared();
    let mut sent = 0;
    let mut deliver = |socket: &Socket| {
        if socket.deliver(&packet, volatile) {
            crowd.add(socket.outbox(), None);
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
    metrics::counter!("socketio_deliveries_total").increment(sent);
}
