//! The questions of [`crate::query`] to one worker.

use std::{sync::Arc, time::Duration};

use actix::{Handler, Message, ResponseFuture};
use futures_util::future::join_all;
use serde_json::Value;

use super::Shard;
use crate::{
    answer::{AckError, Answer},
    query::{Found, Selection},
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
        let sockets = self.local.selected(&selection);
        sockets.iter().map(|socket| Found { id: socket.id(), rooms: socket.rooms() }).collect()
    }
}

impl Handler<Ask> for Shard {
    type Result = ResponseFuture<Vec<Result<Answer, AckError>>>;

    fn handle(&mut self, ask: Ask, _: &mut Self::Context) -> Self::Result {
        let sockets = self.local.selected(&ask.to);
        Box::pin(async move {
            let args = &&*ask.args;
            join_all(sockets.iter().map(|socket| socket.emit_with_ack(&ask.name, args, ask.timeout))).await
        })
    }
}
