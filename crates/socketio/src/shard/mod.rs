//! The actor of one worker: it applies batches from [`crate::Io`] to the worker's sockets and advances the
//! heartbeat wheel. The state is in [`LocalSockets`], which the sessions of the same thread use directly.

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

/// The shard actor of one worker.
pub(crate) struct Shard {
    local: Rc<LocalSockets>,
    _guard: ShardGuard,
}

/// Held by a shard. Its drop counts the end of the shard.
#[derive(Debug)]
pub(crate) struct ShardGuard(watch::Sender<usize>);

/// Applies a batch of operations to the worker's sockets.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver(pub(crate) Arc<[Operation]>);

/// Closes one of every `of` sockets.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseSome {
    pub(crate) reason: CloseReason,
    pub(crate) of: usize,
}

/// The number of the worker's sockets.
#[derive(Message)]
#[rtype(result = "usize")]
pub(crate) struct CountSockets;

impl Shard {
    /// The shard of `local`.
    pub(crate) fn new(local: Rc<LocalSockets>, alive: ShardGuard) -> Self {
        Self { local, _guard: alive }
    }
}

impl ShardGuard {
    /// A guard that increments `ended` on drop.
    pub(crate) fn new(ended: watch::Sender<usize>) -> Self {
        Self(ended)
    }
}

impl Drop for ShardGuard {
    fn drop(&mut self) {
        self.0.send_modify(|ended| *ended += 1);
    }
}

/// Applies one operation. Adds the clients that lag after it to `lagging`.
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
    /// Resolves when lagging clients that read have caught up somewhat: those that lag because of events
    /// without a token, and all whose queue another batch could fill.
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
