//! The actor of one worker: it applies batches from [`crate::Io`] to the worker's sockets and advances the
//! heartbeat wheel. The state is in [`LocalSockets`], which the sessions of the same thread use directly.

mod backpressure;
mod broadcast;
mod query;

use std::{rc::Rc, sync::Arc};

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture, fut::wrap_future};
use tokio::sync::{oneshot, watch};

pub(crate) use self::query::{EmitWithAck, FetchSockets};
use self::{
    backpressure::LaggingClients,
    broadcast::{Delivery, broadcast},
};
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

/// Applies a batch whose events have numbers of the log ([`crate::recovery`]).
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct DeliverNumbered {
    pub(crate) batch: Arc<[Operation]>,
    /// The number of the last event up to this batch.
    pub(crate) last: u64,
    /// Resolved as the answer to [`Deliver`].
    pub(crate) done: oneshot::Sender<()>,
}

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

    /// Applies a batch. Returns the clients that lag after it.
    fn deliver(&self, batch: &[Operation]) -> LaggingClients {
        fault!("shard");
        let mut lagging = LaggingClients::default();
        batch.iter().for_each(|operation| apply(&self.local, operation, &mut lagging));
        lagging
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
        Operation::Emit(emit) => {
            let Emit { packet, volatile, backpressure, .. } = emit;
            let delivery = Delivery { packet, volatile: *volatile, token: backpressure.as_ref() };
            broadcast(local, &emit.into(), delivery, lagging);
        }
        Operation::Send { to, packet, volatile } => {
            let delivery = Delivery { packet, volatile: *volatile, token: None };
            broadcast(local, &to.into(), delivery, lagging);
        }
        Operation::Join { of, room } => local.each(of, |socket| socket.join(room)),
        Operation::Leave { of, room } => local.each(of, |socket| socket.leave(room)),
        Operation::Close { of, reason } => local.each(of, |socket| socket.close(*reason)),
        Operation::Disconnect { of, close } => local.each(of, |socket| socket.disconnect(*close)),
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.local.heartbeats.step(), |shard, _| shard.local.advance());
    }
}

impl Handler<Deliver> for Shard {
    /// Resolves when lagging clients that read have caught up somewhat: those that lag because of events
    /// without a token, and all whose queue another batch could fill.
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Deliver(batch): Deliver, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.deliver(&batch).catch_up())
    }
}

impl Handler<DeliverNumbered> for Shard {
    type Result = ();

    fn handle(&mut self, message: DeliverNumbered, ctx: &mut Self::Context) {
        let lagging = self.deliver(&message.batch);
        self.local.set_applied(message.last);
        let done = message.done;
        ctx.spawn(wrap_future(async move {
            lagging.catch_up().await;
            // An error means that the sender no longer waits.
            let _ = done.send(());
        }));
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
