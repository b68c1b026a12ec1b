//! The log of one process: an actor that takes entries in commit order and hands them to the sockets' workers. Started by
//! [`crate::start`] on an arbiter of its own; calls [`socketio::Io`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, StreamHandler, WrapFuture, fut};
use futures_util::StreamExt;
use socketio::{Io, Operation};
use supervision::{BusyTimer, Part};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{Broker, Entry, StreamPosition, pacing::Pacers, typing::Typists};

/// The most entries in one batch.
const BATCH: usize = 64;

/// The most bytes handed over at once, unless one entry alone is larger: a quarter of what may wait for one client.
const PIECE: usize = 64 * 1024;

/// A batch that takes longer than this is worth a line in the log: a worker is stuck.
pub const SLOW: Duration = Duration::from_secs(5);

/// The actor. One batch is in flight at a time; what comes meanwhile goes into the next one.
pub struct FanoutActor {
    position: Arc<StreamPosition>,
    pacers: Pacers,
    io: Io,
    work: Arc<BusyTimer>,
    _alive: Part,
    typists: Typists,
}

/// Starts the actor on the current arbiter.
pub fn start(broker: &Broker, entries: mpsc::Receiver<Entry>, io: Io) {
    let (position, pacers, work) = (broker.position.clone(), broker.pacers.clone(), broker.work.clone());
    FanoutActor::create(|ctx| {
        ctx.add_stream(ReceiverStream::new(entries).ready_chunks(BATCH));
        FanoutActor { position, pacers, io, typists: Typists::default(), work, _alive: Part::new("log") }
    });
}

impl Actor for FanoutActor {
    type Context = Context<Self>;

    #[cfg(debug_assertions)]
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(supervision::fault::wait("log").into_actor(self));
    }
}

impl StreamHandler<Vec<Entry>> for FanoutActor {
    fn handle(&mut self, entries: Vec<Entry>, ctx: &mut Self::Context) {
        self.work.begin();
        metrics::histogram!("godzilla_chat_log_batch_entries").record(entries.len() as f64);
        let now = Instant::now();
        let (mut batch, mut flushed, mut last) = (Vec::with_capacity(entries.len()), Vec::new(), 0);
        for entry in entries {
            match entry {
                Entry::Flushed(done) => flushed.push(done),
                Entry::Reached(offset) => last = offset,
                Entry::Message { offset, .. } => {
                    last = offset.unwrap_or(last);
                    batch.extend(self.typists.fanouts(entry, &self.position, &self.pacers, now));
                }
                other => batch.extend(self.typists.fanouts(other, &self.position, &self.pacers, now)),
            }
        }
        let sent = send(self.io.clone(), batch).into_actor(self);
        // `wait` and not `spawn`: nothing else of the stream is looked at before the workers have this batch.
        ctx.wait(sent.then(move |(), broker, _| {
            broker.position.reach(last);
            broker.work.end();
            // Whoever waits hears of it by that.
            drop(flushed);
            fut::ready(())
        }));
    }
}

/// Hands a batch over, in pieces that are small beside what may wait for one client. It waits as long as it takes: to go on
/// without a worker would break that worker's order.
async fn send(io: Io, batch: Vec<Operation>) {
    for piece in pieces(batch) {
        let mut sent = std::pin::pin!(io.send(piece));
        while timeout(SLOW, &mut sent).await.is_err() {
            metrics::counter!("godzilla_chat_log_slow_total").increment(1);
            tracing::warn!(seconds = SLOW.as_secs(), "a worker does not take its batch");
        }
    }
}

/// Cuts a batch where a piece would become larger than [`PIECE`].
fn pieces(batch: Vec<Operation>) -> Vec<Vec<Operation>> {
    let (mut pieces, mut bytes): (Vec<Vec<Operation>>, usize) = (Vec::new(), 0);
    for fanout in batch {
        let size = match &fanout {
            Operation::Emit(cast) => cast.packet.size(),
            Operation::Send { packet, .. } => packet.size(),
            _ => 0,
        };
        bytes += size;
        if pieces.is_empty() || (size > 0 && bytes > PIECE) {
            bytes = size;
            pieces.push(Vec::new());
        }
        pieces.last_mut().expect("the first fanout has made a piece").push(fanout);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use socketio::{Emit, Encoded};

    use super::*;

    fn emit(bytes: usize) -> Operation {
        let packet = Encoded::event("/", "n", &("x".repeat(bytes),), None).unwrap();
        Operation::Emit(Emit {
            namespace: "/".into(),
            rooms: vec![],
            except: None,
            packet,
            volatile: false,
            backpressure: None,
        })
    }

    #[test]
    fn a_batch_is_cut_into_pieces_in_order_and_nothing_is_lost() {
        let lengths = |batch| pieces(batch).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(vec![]), [0; 0]);
        assert_eq!(lengths(vec![emit(1), emit(1)]), [2]);
        assert_eq!(lengths(vec![emit(PIECE), emit(1), emit(PIECE / 2), emit(PIECE / 2)]), [1, 2, 1]);
        let leave = Operation::Leave { of: "a".into(), room: "a".into() };
        assert_eq!(lengths(vec![leave.clone(), emit(PIECE * 2), leave]), [1, 2]);
    }
}
