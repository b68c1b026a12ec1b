//! From the application to the sockets of every worker: a batch goes to each worker's shard, in order.

use std::sync::{Arc, RwLock};

use actix::Addr;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::{
    close::CloseReason,
    operation::Operation,
    shard::{Deliver, Shard, ShardGuard},
};

/// The way to all sockets of the process. Made first, so that whoever sends can exist before the [`crate::Server`].
#[derive(Debug, Clone, Default)]
pub struct Io {
    shards: Arc<RwLock<Vec<Addr<Shard>>>>,
    /// How many shards have ended.
    ended: watch::Sender<usize>,
}

impl Io {
    /// A io to no worker yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands `batch` to every worker; resolves when each has queued it toward its sockets. Whoever awaits that before
    /// the next batch keeps all batches in order and at most one of them in flight.
    pub async fn send(&self, batch: Vec<Operation>) {
        let batch: Arc<[Operation]> = batch.into();
        let sends = self.shards().into_iter().map(|shard| shard.send(Deliver(batch.clone())));
        for sent in join_all(sends).await {
            if sent.is_err() {
                tracing::debug!("a worker is gone");
            }
        }
    }

    /// Ends every connection of the process, spread over `steps` steps so that clients do not all come back at once. Each client
    /// is received until its turn; then it gets the acks that it has asked for before its connection ends.
    pub async fn close_all(&self, reason: CloseReason, steps: u32, pause: std::time::Duration) {
        let mut closing = Vec::new();
        for step in 0..steps {
            let of = (steps - step) as usize;
            let sends =
                self.shards().into_iter().map(|shard| shard.send(crate::shard::CloseSome { reason, of }));
            // Spawned, so that a step begins on time when a client of the one before still waits for an ack.
            closing.push(actix::spawn(join_all(sends)));
            if step + 1 < steps {
                tokio::time::sleep(pause).await;
            }
        }
        join_all(closing).await;
    }

    /// Resolves when a worker's shard has ended, which it does with its worker or by a panic. Its sockets then get nothing any more,
    /// so whoever runs the server should end the process, unless the server is being stopped.
    pub fn shard_ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.subscribe();
        async move {
            // An error would mean that nobody can start a shard any more.
            let _ = ended.wait_for(|ended| *ended > 0).await;
        }
    }

    /// How many shards answer: one for each worker.
    pub async fn shards_alive(&self) -> usize {
        join_all(self.shards().into_iter().map(|shard| shard.send(crate::shard::CountSockets)))
            .await
            .into_iter()
            .flatten()
            .count()
    }

    /// How many sockets are connected.
    pub async fn count(&self) -> usize {
        let counts =
            join_all(self.shards().into_iter().map(|shard| shard.send(crate::shard::CountSockets))).await;
        counts.into_iter().flatten().sum()
    }

    /// For a shard that is about to start.
    pub(crate) fn shard_guard(&self) -> ShardGuard {
        ShardGuard::new(self.ended.clone())
    }

    /// A worker's shard takes part.
    pub(crate) fn add(&self, shard: Addr<Shard>) {
        self.shards.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(shard);
    }

    pub(crate) fn shards(&self) -> Vec<Addr<Shard>> {
        let mut shards = self.shards.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        shards.retain(Addr::connected);
        shards.clone()
    }
}
