//! The log of one process: an actor that takes entries in commit order and hands them to the sockets' workers. Started by
//! [`crate::start`] on an arbiter of its own; calls [`socketio::Bus`].

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, StreamHandler, WrapFuture, fut};
use futures_util::StreamExt;
use socketio::{Bus, Fanout};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{Entry, Log, Position, fanout::fanouts};

/// The most entries in one batch.
const BATCH: usize = 256;

/// A batch that takes longer than this is worth a line in the log: a worker is stuck.
const SLOW: Duration = Duration::from_secs(5);

/// The actor. One batch is in flight at a time; what comes meanwhile goes into the next one.
pub struct Local {
    position: Arc<Position>,
    bus: Bus,
}

/// Starts the actor on the current arbiter.
pub fn start(log: &Log, entries: mpsc::Receiver<Entry>, bus: Bus) {
    let position = log.position.clone();
    Local::create(|ctx| {
        ctx.add_stream(ReceiverStream::new(entries).ready_chunks(BATCH));
        Local { position, bus }
    });
}

impl Actor for Local {
    type Context = Context<Self>;
}

impl StreamHandler<Vec<Entry>> for Local {
    fn handle(&mut self, entries: Vec<Entry>, ctx: &mut Self::Context) {
        metrics::histogram!("godzilla_chat_log_batch_entries").record(entries.len() as f64);
        let (mut batch, mut flushed, mut last) = (Vec::with_capacity(entries.len()), Vec::new(), 0);
        for entry in entries {
            match entry {
                Entry::Flushed(done) => flushed.push(done),
                Entry::Said { offset, .. } => {
                    last = offset;
                    batch.extend(fanouts(entry, &self.position));
                }
                other => batch.extend(fanouts(other, &self.position)),
            }
        }
        let sent = send(self.bus.clone(), batch).into_actor(self);
        // `wait` and not `spawn`: nothing else of the stream is looked at before the workers have this batch.
        ctx.wait(sent.then(move |(), log, _| {
            log.position.reach(last);
            for done in flushed {
                // Whoever waits may have given up.
                let _ = done.send(());
            }
            fut::ready(())
        }));
    }
}

/// Hands a batch over. It waits as long as it takes: to go on without a worker would break that worker's order.
async fn send(bus: Bus, batch: Vec<Fanout>) {
    if batch.is_empty() {
        return;
    }
    let mut sent = std::pin::pin!(bus.send(batch));
    while timeout(SLOW, &mut sent).await.is_err() {
        metrics::counter!("godzilla_chat_log_slow_total").increment(1);
        tracing::warn!(seconds = SLOW.as_secs(), "a worker does not take its batch");
    }
}
