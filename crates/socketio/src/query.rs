//! What an application may ask of the sockets of every worker: who is there, and what they answer. Calls each worker's shard.

use std::time::Duration;

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;

use crate::{
    answer::{AckError, Answer},
    bus::Bus,
    fanout::{Found, Selection},
    shard::{Ask, Fetch, Shard},
};

/// What came back of an event that was sent to many with an ack.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// The answers in time, in no order.
    pub given: Vec<Answer>,
    /// How many sockets did not answer in time, or have left.
    pub missing: usize,
}

impl Bus {
    /// The sockets of a selection.
    pub async fn fetch(&self, selection: Selection) -> Vec<Found> {
        self.ask_shards(|| Fetch(selection.clone())).await.into_iter().flatten().collect()
    }

    /// Sends an event to a selection of sockets and collects their acks. `args` serialises to an array.
    ///
    /// # Errors
    /// [`AckError::Arguments`] when `args` cannot be sent.
    pub async fn emit_with_ack(
        &self,
        to: Selection,
        name: &str,
        args: &impl Serialize,
        timeout: Duration,
    ) -> Result<Answers, AckError> {
        let Ok(Value::Array(args)) = serde_json::to_value(args) else { return Err(AckError::Arguments) };
        let ask = Ask { to, name: name.into(), args: args.into(), timeout };
        let outcomes = self.ask_shards(|| ask.clone()).await.into_iter().flatten();
        let mut answers = Answers { given: Vec::new(), missing: 0 };
        for outcome in outcomes {
            match outcome {
                Ok(answer) => answers.given.push(answer),
                Err(_) => answers.missing += 1,
            }
        }
        Ok(answers)
    }

    async fn ask_shards<M>(&self, question: impl Fn() -> M) -> Vec<M::Result>
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
