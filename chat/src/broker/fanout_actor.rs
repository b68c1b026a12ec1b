//! The fan-out actor of one process: takes entries from the broker's queue in order and sends them to the sockets' workers. Started
//! by [`crate::start`] on an arbiter of its own; calls [`socketio::Io`].

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, StreamHandler, WrapFuture, fut};
use futures_util::StreamExt;
use socketio::{Io, Operation};
use supervision::{BusyTimer, Part};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Broker, Control, Entry, RoomEvent, StreamPosition, room_backpressure::RoomTokens, typing::TypingLists,
};

/// The most entries in one batch.
const BATCH: usize = 64;

/// The most bytes in one piece of a batch, unless a single operation is larger. A quarter of the bytes that may be queued for one client.
const PIECE: usize = 64 * 1024;

/// The time after which a batch that a worker has not taken is logged and counted, because the worker is stuck.
pub const SLOW: Duration = Duration::from_secs(5);

/// The fan-out actor. One batch is in flight at a time; entries that arrive meanwhile form the next batch.
pub struct FanoutActor {
    position: Arc<StreamPosition>,
    tokens: RoomTokens,
    io: Io,
    /// Runs while a batch is in flight.
    work: Arc<BusyTimer>,
    _alive: Part,
    typing_lists: TypingLists,
}

/// Starts the actor on the current arbiter.
pub fn start(broker: &Broker, entries: mpsc::Receiver<Entry>, io: Io) {
    let (position, tokens, work) = (broker.position.clone(), broker.tokens.clone(), broker.work.clone());
    FanoutActor::create(|ctx| {
        ctx.add_stream(ReceiverStream::new(entries).ready_chunks(BATCH));
        FanoutActor {
            position,
            tokens,
            io,
            typing_lists: TypingLists::default(),
            work,
            _alive: Part::new("log"),
        }
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
        metrics::histogram!("godzilla_chat_broker_batch_entries").record(entries.len() as f64);
        let (mut batch, mut flushed, mut last) = (Vec::with_capacity(entries.len()), Vec::new(), 0);
        for entry in entries {
            match entry {
                Entry::Control(Control::Flushed(done)) => flushed.push(done),
                Entry::Control(Control::Reached(offset)) => last = offset,
                Entry::Event(RoomEvent { offset, is_resumable: true, .. }) => {
                    last = offset.unwrap_or(last);
                    batch.extend(self.typing_lists.operations(entry, &self.position, &self.tokens));
                }
                other => batch.extend(self.typing_lists.operations(other, &self.position, &self.tokens)),
            }
        }
        let sent = send(self.io.clone(), batch).into_actor(self);
        // `wait` and not `spawn`: the next entries are not handled before the workers have this batch.
        ctx.wait(sent.then(move |(), broker, _| {
            broker.position.reach(last);
            broker.work.end();
            // Each waiter of a flush is woken by the drop of its sender.
            drop(flushed);
            fut::ready(())
        }));
    }
}

/// Sends a batch to the workers in pieces that are small compared with a client's queue. Waits without a timeout: to continue
/// without a worker would break the order on that worker.
async fn send(io: Io, batch: Vec<Operation>) {
    for piece in pieces(batch) {
        let mut sent = std::pin::pin!(io.send(piece));
        while timeout(SLOW, &mut sent).await.is_err() {
            metrics::counter!("godzilla_chat_broker_slow_batches_total").increment(1);
            tracing::warn!(
                seconds = SLOW.as_secs(),
                "a worker has not taken a batch of events in time; the broker keeps waiting"
            );
        }
    }
}

/// Splits a batch into pieces of at most [`PIECE`] bytes. A larger operation is a piece of its own.
fn pieces(batch: Vec<Operation>) -> Vec<Vec<Operation>> {
    let (mut pieces, mut bytes): (Vec<Vec<Operation>>, usize) = (Vec::new(), 0);
    for operation in batch {
        let size = match &operation {
            Operation::Emit(emit) => emit.packet.size(),
            Operation::Send { packet, .. } => packet.size(),
            _ => 0,
        };
        bytes += size;
        if pieces.is_empty() || (size > 0 && bytes > PIECE) {
            bytes = size;
            pieces.push(Vec::new());
        }
        pieces.last_mut().expect("the first operation adds a piece").push(operation);
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
    fn a_batch_is_split_into_pieces_in_order_without_loss() {
        let lengths = |batch| pieces(batch).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(vec![]), [0; 0]);
        assert_eq!(lengths(vec![emit(1), emit(1)]), [2]);
        assert_eq!(lengths(vec![emit(PIECE), emit(1), emit(PIECE / 2), emit(PIECE / 2)]), [1, 2, 1]);
        let leave = Operation::Leave { of: "a".into(), room: "a".into() };
        assert_eq!(lengths(vec![leave.clone(), emit(PIECE * 2), leave]), [1, 2]);
    }
}
