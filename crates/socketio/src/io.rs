//! Operations on the sockets of all workers: a batch is sent to each worker's shard, in order.

use std::{
    rc::Rc,
    sync::{Arc, OnceLock, RwLock},
};

use actix::{Actor, Addr};
use futures_util::future::join_all;
use tokio::sync::{oneshot, watch};

use crate::{
    Config, Encoded,
    close::CloseReason,
    operation::{Operation, Target},
    recovery::Log,
    shard::{Deliver, DeliverNumbered, Shard, ShardGuard},
    socket::{Leaving, LocalSockets, Position, SocketId, SocketLog},
};

/// Sends operations to all sockets of the process. It is created before the [`crate::Server`], so that
/// senders can be created first.
#[derive(Debug, Clone, Default)]
pub struct Io {
    shards: Arc<RwLock<Vec<Addr<Shard>>>>,
    /// The number of shards that have ended.
    ended: watch::Sender<usize>,
    /// The log for connection state recovery.
    log: Arc<OnceLock<Log>>,
}

/// An [`Io`] whose events are numbered and stored for connection state recovery.
pub(crate) struct NumberedIo {
    pub(crate) log: Log,
    pub(crate) io: Io,
}

impl SocketLog for NumberedIo {
    fn direct(&self, sid: &SocketId, packet: &Encoded, applied: u64) -> Option<(Encoded, Position)> {
        self.log.direct(sid, packet, applied)
    }

    fn late(&self, pid: &str, namespace: &str, sid: &SocketId, packet: &Encoded) {
        if self.log.contains(pid) {
            let to = Target::room(namespace, sid.room());
            let send = Operation::Send { to, packet: packet.clone(), volatile: false };
            drop(self.io.publish(&self.log, vec![send]));
        }
    }

    fn position(&self, applied: u64) -> Position {
        self.log.position(applied)
    }

    fn leave(&self, pid: &str, leaving: Option<Leaving>) {
        match leaving {
            Some(leaving) => self.log.disconnect(pid, leaving),
            None => self.log.remove(pid),
        }
    }

    fn expire(&self) {
        self.log.expire();
    }
}

impl Io {
    /// An `Io` without workers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends `batch` to every worker. Resolves when each worker has queued it for its sockets. A caller that
    /// awaits this before the next batch keeps all batches in order, with at most one in flight.
    pub async fn send(&self, batch: Vec<Operation>) {
        if let Some(log) = self.log.get() {
            join_all(self.publish(log, batch)).await;
            return;
        }
        let batch: Arc<[Operation]> = batch.into();
        let sends = self.shards().into_iter().map(|shard| shard.send(Deliver(batch.clone())));
        for sent in join_all(sends).await {
            if sent.is_err() {
                tracing::debug!("worker has ended, batch not delivered to it");
            }
        }
    }

    /// Closes every connection of the process in `steps` steps with `pause` between them, so that clients do
    /// not all reconnect at once. Until its step a client is served normally. Then it receives the acks that
    /// it has requested, and its connection is closed.
    pub async fn close_all(&self, reason: CloseReason, steps: u32, pause: std::time::Duration) {
        let mut closing = Vec::new();
        for step in 0..steps {
            let of = (steps - step) as usize;
            let sends =
                self.shards().into_iter().map(|shard| shard.send(crate::shard::CloseSome { reason, of }));
            // Spawned, so that a step begins on time while a client of the step before still waits for an
            // ack.
            closing.push(actix::spawn(join_all(sends)));
            if step + 1 < steps {
                tokio::time::sleep(pause).await;
            }
        }
        join_all(closing).await;
    }

    /// Resolves when a worker's shard has ended: with its worker, or by a panic. Its sockets receive nothing
    /// from then on, so the process should exit, unless the server is being stopped.
    pub fn shard_ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.subscribe();
        async move {
            // An error would mean that no further shard can start.
            let _ = ended.wait_for(|ended| *ended > 0).await;
        }
    }

    /// The number of shards that respond: one for each worker.
    pub async fn shards_alive(&self) -> usize {
        join_all(self.shards().into_iter().map(|shard| shard.send(crate::shard::CountSockets)))
            .await
            .into_iter()
            .flatten()
            .count()
    }

    /// The number of connected sockets.
    pub async fn count(&self) -> usize {
        let counts =
            join_all(self.shards().into_iter().map(|shard| shard.send(crate::shard::CountSockets))).await;
        counts.into_iter().flatten().sum()
    }

    /// Numbers the events of a batch and sends it to every worker, in one step, so that all workers apply all
    /// batches in one order. Each receiver resolves when a worker has queued the batch for its sockets.
    #[allow(clippy::disallowed_methods, reason = "bounded: every sender awaits its batch")]
    fn publish(&self, log: &Log, batch: Vec<Operation>) -> Vec<oneshot::Receiver<()>> {
        log.publish(batch, |batch, last| {
            let batch: Arc<[Operation]> = batch.into();
            let deliver = |shard: Addr<Shard>| {
                let (done, delivered) = oneshot::channel();
                shard.do_send(DeliverNumbered { batch: batch.clone(), last, done });
                delivered
            };
            self.shards().into_iter().map(deliver).collect()
        })
    }

    /// Turns connection state recovery on if the configuration requests it. Only the first call takes effect.
    pub(crate) fn recover(&self, config: &Config) {
        let Some(recovery) = &config.recovery else { return };
        match Log::new(recovery.clone(), config.send_queue_bytes) {
            Ok(log) => drop(self.log.set(log)),
            Err(error) => tracing::error!(%error, "connection state recovery is off"),
        }
    }

    /// The log for connection state recovery with this `Io`.
    pub(crate) fn numbered(&self) -> Option<NumberedIo> {
        self.log.get().map(|log| NumberedIo { log: log.clone(), io: self.clone() })
    }

    /// Adds the shard of a worker with these sockets.
    pub(crate) fn add(&self, local: Rc<LocalSockets>) {
        let add = |last| {
            local.set_applied(last);
            let shard = Shard::new(local.clone(), ShardGuard::new(self.ended.clone())).start();
            self.shards.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(shard);
        };
        match self.log.get() {
            Some(log) => log.at_rest(add),
            None => add(0),
        }
    }

    pub(crate) fn shards(&self) -> Vec<Addr<Shard>> {
        let mut shards = self.shards.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        shards.retain(Addr::connected);
        shards.clone()
    }
}
