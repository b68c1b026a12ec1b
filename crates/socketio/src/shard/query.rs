//! Queries to the sockets of one worker: the messages behind [`crate::query`].

use std::{sync::Arc, time::Duration};

use actix::{Handler, Message, ResponseFuture};
use futures_util::future::join_all;
use serde_json::Value;

use super::{Shard, broadcast::select};
use crate::{
    ack::{AckError, Response},
    operation::{SocketInfo, Target},
};

/// The sockets of a target on this worker.
#[derive(Debug, Message)]
#[rtype(result = "Vec<SocketInfo>")]
pub(crate) struct FetchSockets(pub(crate) Target);

/// Sends an event to the sockets of a target on this worker and collects their acks.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Vec<Result<Response, AckError>>")]
pub(crate) struct EmitWithAck {
    pub(crate) to: Target,
    pub(crate) name: Arc<str>,
    pub(crate) args: Arc<[Value]>,
    pub(crate) timeout: Duration,
}

impl Handler<FetchSockets> for Shard {
    type Result = Vec<SocketInfo>;

    fn handle(&mut self, FetchSockets(target): FetchSockets, _: &mut Self::Context) -> Self::Result {
        let sockets = select(&self.local, &(&target).into());
        sockets.iter().map(|socket| SocketInfo { id: socket.id(), rooms: socket.rooms() }).collect()
    }
}

impl Handler<EmitWithAck> for Shard {
    type Result = ResponseFuture<Vec<Result<Response, AckError>>>;

    fn handle(&mut self, request: EmitWithAck, _: &mut Self::Context) -> Self::Result {
        let sockets = select(&self.local, &(&request.to).into());
        Box::pin(async move {
            let args = &&*request.args;
            join_all(sockets.iter().map(|socket| socket.emit_with_ack(&request.name, args, request.timeout)))
                .await
        })
    }
}
