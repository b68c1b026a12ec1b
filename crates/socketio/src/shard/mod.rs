//! One per worker: the sockets that live there, who of them is in which room, and their heartbeats. The [`Shard`] actor
//! takes batches from the [`crate::Io`] and turns the wheel; [`LocalSockets`] is the state itself, which the sessions of the same
//! thread use directly.

mod backpressure;
mod query;

use std::{rc::Rc, sync::Arc};

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture};
use tokio::sync::watch;

pub(crate) use self::query::{EmitWithAck, FetchSockets};
use self::{backpressure::LaggingClients, query::send};
use crate::{
    close::CloseReason,
    operation::{Emit, Operation},
    socket::LocalSockets,
};

/// See the module.
pub(crate) struct Shard {
    local: Rc<LocalSockets>,
    _guard: ShardGuard,
}

/// Held by a shard; dropping it is the shard's end, which is permit.
#[derive(Debug)]
pub(crate) struct ShardGuard(watch::Sender<usize>);

/// Deliver this to the sockets.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver(pub(crate) Arc<[Operation]>);

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
pub(crate) struct CountSockets;

impl Shard {
    /// The actor around `local`.
    pub(crate) fn new(local: Rc<LocalSockets>, alive: ShardGuard) -> Self {
        Self { local, _guard: alive }
    }
}

impl ShardGuard {
    /// Of a shard whose end is permit in `ended`.
    pub(crate) fn new(ended: watch::Sender<usize>) -> Self {
        Self(ended)
    }
}

impl Drop for ShardGuard {
    fn drop(&mut self) {
        self.0.send_modify(|ended| *ended += 1);
    }
}

/// Does what the application wants done; `lagging` gathers the send_queues that fill up with it.
fn apply(local: &LocalSockets, operation: &Operation, lagging: &mut LaggingClients) {
    match operation {
        Operation::Emit(event) => emit(local, event, lagging),
        Operation::Join { of, room } => local.each(of, |socket| socket.join(room)),
        Operation::Leave { of, room } => local.each(of, |socket| socket.leave(room)),
        Operation::Close { of, reason } => local.each(of, |socket| socket.close(*reason)),
        Operation::Send { to, packet, volatile } => send(local, to, packet, *volatile, lagging),
        Operation::Disconnect { of, close } => local.each(of, |socket| socket.disconnect(*close)),
    }
}

fn emit(local: &LocalSockets, event: &Emit, lagging: &mut LaggingClients) {
    let packet = event.packet.unshared();
    let mut sent = 0;
    local.table(&event.namespace, |table| {
        table.select(&event.rooms, |_, socket| {
            if !event.except.as_ref().is_some_and(|id| socket.has_id(id)) {
                if socket.deliver(&packet, event.volatile) {
                    lagging.add(socket.send_queue(), event.backpressure.as_ref());
                }
                sent += 1;
            }
        });
    });
    metrics::counter!("socketio_packets_delivered_total").increment(sent);
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.local.heartbeats.step(), |shard, _| shard.local.heartbeats.advance());
    }
}

impl Handler<Deliver> for Shard {
    /// Resolves when clients that are behind but read have caught up a little: those that are behind with what has no pacer,
    /// and all that a next batch could be too much for.
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Deliver(batch): Deliver, _: &mut Self::Context) -> Self::Result {
        fault!("shard");
        let mut lagging = LaggingClients::default();
        batch.iter().for_each(|operation| apply(&self.local, operation, &mut lagging));
        Box::pin(lagging.catch_up())
    }
}

impl Handler<CloseSome> for Shard {
    /// Resolves when they are closed.
    type Result = ResponseFuture<()>;

    fn handle(&mut self, CloseSome { reason, of }: CloseSome, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.local.close_some(reason, of))
    }
}

impl Handler<CountSockets> for Shard {
    type Result = usize;

    fn handle(&mut self, _: CountSockets, _: &mut Self::Context) -> usize {
        self.local.count()
    }
}

#[cfg(test)]
mod tests;
