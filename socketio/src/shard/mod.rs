//! One per worker: the sockets that live there, who of them is in which room, and their heartbeats. The [`Shard`] actor
//! takes batches from the [`crate::Bus`] and turns the wheel; [`Local`] is the state itself, which the sessions of the same
//! thread use directly.

mod local;
mod query;
mod table;
mod wheel;

use std::{rc::Rc, sync::Arc};

use actix::{Actor, AsyncContext, Context, Handler, Message};

pub(crate) use local::{LAST_WORDS, Local};
pub(crate) use query::{Ask, Fetch};

use crate::{bus::Fanout, close::CloseReason};

/// See the module.
pub(crate) struct Shard {
    local: Rc<Local>,
}

/// Carry this to the sockets.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Carry(pub(crate) Arc<[Fanout]>);

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
pub(crate) struct Count;

impl Shard {
    /// The actor around `local`.
    pub(crate) fn new(local: Rc<Local>) -> Self {
        Self { local }
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.local.step(), |shard, _| shard.local.turn());
    }
}

impl Handler<Carry> for Shard {
    type Result = ();

    fn handle(&mut self, Carry(batch): Carry, _: &mut Self::Context) {
        batch.iter().for_each(|fanout| self.local.carry(fanout));
    }
}

impl Handler<CloseSome> for Shard {
    type Result = ();

    fn handle(&mut self, CloseSome { reason, of }: CloseSome, _: &mut Self::Context) {
        self.local.close_some(reason, of);
    }
}

impl Handler<Count> for Shard {
    type Result = usize;

    fn handle(&mut self, _: Count, _: &mut Self::Context) -> usize {
        self.local.count()
    }
}

#[cfg(test)]
mod tests;
