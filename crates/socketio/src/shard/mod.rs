//! One per worker: the sockets that live there, who of them is in which room, and their heartbeats. The [`Shard`] actor
//! takes batches from the [`crate::Bus`] and turns the wheel; [`Local`] is the state itself, which the sessions of the same
//! thread use directly.

mod pace;
mod query;

use std::{rc::Rc, sync::Arc};

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture};
use tokio::sync::watch;

pub(crate) use self::query::{Ask, Fetch};
use self::{pace::Crowd, query::send};
use crate::{
    close::CloseReason,
    fanout::{Broadcast, Fanout},
    socket::{Local, Socket},
};

/// See the module.
pub(crate) struct Shard {
    local: Rc<Local>,
    _alive: Alive,
}

/// Held by a shard; dropping it is the shard's end, which is counted.
#[derive(Debug)]
pub(crate) struct Alive(watch::Sender<usize>);

/// Carry this to the sockets.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Carry(pub(crate) Arc<[Fanout]>);

/// Close every `of`-th session.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseSome {
    pub(crate) reason: CloseReason,
    pub(crate) of: usize,
}

/// How many sockets are here?
#[derive(Message)]
#[rtype(result = "usize")]
pub(crate) struct Count;

impl Shard {
    /// The actor around `local`.
    pub(crate) fn new(local: Rc<Local>, alive: Alive) -> Self {
        Self { local, _alive: alive }
    }
}

impl Alive {
    /// Of a shard whose end is counted in `ended`.
    pub(crate) fn new(ended: watch::Sender<usize>) -> Self {
        Self(ended)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|ended| *ended += 1);
    }
}

/// Does what the application wants done; `crowd` gathers the outboxes that fill up with it.
fn carry(local: &Local, fanout: &Fanout, crowd: &mut Crowd) {
    match fanout {
        Fanout::Emit(broadcast) => emit(local, broadcast, crowd),
        Fanout::Join { of, room } => local.each(of, |socket| socket.join(room)),
        Fanout::Leave { of, room } => local.each(of, |socket| socket.leave(room)),
        Fanout::Close { of, reason } => local.each(of, |socket| socket.close(*reason)),
        Fanout::Send { to, packet, volatile } => send(local, to, packet, *volatile, crowd),
        Fanout::Dismiss { of } => local.each(of, Socket::disconnect),
        Fanout::Disconnect { of, reason } => local.each(of, |socket| socket.expel(*reason)),
    }
}

fn emit(local: &Local, broadcast: &Broadcast, crowd: &mut Crowd) {
    let packet = broadcast.packet.unshared();
    let mut sent = 0;
    local.table(&broadcast.namespace, |table| {
        table.select(&broadcast.rooms, |_, socket| {
            if !broadcast.except.as_ref().is_some_and(|id| socket.has_id(id)) {
                if socket.deliver(&packet, broadcast.volatile) {
                    crowd.add(socket.outbox(), broadcast.pacer.as_ref());
                }
                sent += 1;
            }
        });
    });
    metrics::counter!("socketio_deliveries_total").increment(sent);
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.local.pulse.step(), |shard, _| shard.local.pulse.turn());
    }
}

impl Handler<Carry> for Shard {
    /// Resolves when clients that are behind but read have caught up a little: those that are behind with what has no pacer,
    /// and all that a next batch could be too much for.
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Carry(batch): Carry, _: &mut Self::Context) -> Self::Result {
        fault!("shard");
        let mut crowd = Crowd::default();
        batch.iter().for_each(|fanout| carry(&self.local, fanout, &mut crowd));
        Box::pin(crowd.catch_up())
    }
}

impl Handler<CloseSome> for Shard {
    /// Resolves when they are closed.
    type Result = ResponseFuture<()>;

    fn handle(&mut self, CloseSome { reason, of }: CloseSome, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.local.close_some(reason, of))
    }
}

impl Handler<Count> for Shard {
    type Result = usize;

    fn handle(&mut self, _: Count, _: &mut Self::Context) -> usize {
        self.local.count()
    }
}

#[cfg(test)]
mod tests;
