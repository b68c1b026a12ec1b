//! What an application may ask of the sockets of every worker: who is there, and what they response. Calls each worker's shard.

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

/// What came back of an event that was sent to many with an ack.
#[derive(Debug, Clone, PartialEq)]
pub struct Responses {
    /// The responses in time, in no order.
    pub given: Vec<Response>,
    /// How many sockets did not response in time, or have left.
    pub missing: usize,
}

impl Io {
    /// The sockets of a selection.
    pub async fn fetch(&self, selection: Target) -> Vec<SocketInfo> {
        self.query_shards(|| FetchSockets(selection.clone())).await.into_iter().flatten().collect()
    }

    /// Sends an event to a selection of sockets and collects their acks. `args` serialises to an array.
    ///
    /// # Errors
    /// [`AckError::Arguments`] when `args` cannot be sent.
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
        let mut responses = Responses { given: Vec::new(), missing: 0 };
        for outcome in outcomes {
            match outcome {
                Ok(response) => responses.given.push(response),
                Err(_) => responses.missing += 1,
            }
        }
        Ok(responses)
    }

    async fn query_shards<M>(&self, question: impl Fn() -> M) -> Vec<M::Result>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Shard: Handler<M>,
        <Shard as actix::Actor>::Context: ToEnvelope<Shard, M>,
    {
        let shards: Vec<Addr<Shard>> = self.shards();
        // A worker that is gone has no sockets.
        join_all(shards.iter().map(|shard| shard.send(question()))).await.into_iter().flatten().collect()
    }
}
