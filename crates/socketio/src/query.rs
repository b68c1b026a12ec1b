//! Queries to the sockets of all workers: which sockets exist, and their acks to an event. Sent to each
//! worker's shard.

use std::time::Duration;

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;

use crate::{
    ack::{AckError, Response},
    io::Io,
    operation::{SocketInfo, Target},
    shard::{EmitWithAck, FetchSockets, Shard},
};

/// The acks to an event that was sent to several sockets.
#[derive(Debug, Clone, PartialEq)]
pub struct Responses {
    /// The acks that were received in time, in no particular order.
    pub received: Vec<Response>,
    /// The number of sockets that did not acknowledge in time, or have left.
    pub missing: usize,
}

impl Io {
    /// The sockets of a target.
    pub async fn fetch(&self, target: Target) -> Vec<SocketInfo> {
        self.query_shards(|| FetchSockets(target.clone())).await.into_iter().flatten().collect()
    }

    /// Sends an event to the sockets of a target and collects their acks. `args` must serialise to an array.
    ///
    /// # Errors
    /// [`AckError::Arguments`] if `args` does not serialise to an array.
    pub async fn emit_with_ack(
        &self,
        to: Target,
        name: &str,
        args: &impl Serialize,
        timeout: Duration,
    ) -> Result<Responses, AckError> {
        let Ok(Value::Array(args)) = serde_json::to_value(args) else { return Err(AckError::Arguments) };
        let ask = EmitWithAck { to, name: name.into(), args: args.into(), timeout };
        let outcomes = self.query_shards(|| ask.clone()).await.into_iter().flatten();
        let mut responses = Responses { received: Vec::new(), missing: 0 };
        for outcome in outcomes {
            match outcome {
                Ok(response) => responses.received.push(response),
                Err(_) => responses.missing += 1,
            }
        }
        Ok(responses)
    }

    async fn query_shards<M>(&self, message: impl Fn() -> M) -> Vec<M::Result>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Shard: Handler<M>,
        <Shard as actix::Actor>::Context: ToEnvelope<Shard, M>,
    {
        let shards: Vec<Addr<Shard>> = self.shards();
        // A worker that has ended has no sockets.
        join_all(shards.iter().map(|shard| shard.send(message()))).await.into_iter().flatten().collect()
    }
}
