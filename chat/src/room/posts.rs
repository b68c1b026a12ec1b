//! Posting: the permission check, the batches, and the answers. While one batch is written the next one collects posts. So a busy room
//! needs few writes, and a post to an idle room does not wait.
//!
//! Batches and changes of the room are written one after the other. A post that waits during a change is checked again when its batch
//! begins, so no message is stored after the end of its room or of its author's membership.

use std::time::Instant;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use proto::{Username, event::Act};
use tokio::{sync::oneshot, time::timeout};

use super::{
    Room, State,
    batch::{self, PendingPost},
    post::Post,
    queue::{Queue, QueueItem},
};
use crate::{
    Error,
    ask::{Ask, Reply},
    config::STORE_DEADLINE,
    history::{RoomHead, weight},
    id::new_id,
};

/// The posts of a room that were accepted and have no outcome yet.
pub struct Posts {
    queue: Queue<Ask<Post>>,
    /// The room's head. `None` while the outcome of a batch is unknown: it is read from the store before the next batch.
    head: Option<RoomHead>,
    /// Whether a batch is being written or delivered.
    in_flight: bool,
    /// Resolves when the batch in flight has its outcome. `None` when there is no such batch, or a change waits for it.
    written: Option<oneshot::Receiver<()>>,
    /// The callers that wait until every accepted post has its outcome.
    settling: Vec<Reply<()>>,
}

impl QueueItem for Ask<Post> {
    fn bytes(&self) -> usize {
        weight(self.question.text.as_str())
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.reply.is_closed() || self.question.deadline <= now
    }
}

impl Posts {
    /// An empty queue of a room with the head `head`.
    pub fn new(head: RoomHead) -> Self {
        Self { queue: Queue::new(), head: Some(head), in_flight: false, written: None, settling: Vec::new() }
    }

    /// Whether every accepted post has its outcome.
    pub fn is_settled(&self) -> bool {
        !self.in_flight && self.queue.len() == 0
    }

    /// Waits until the batch in flight has its outcome. The next batch begins when the room handles messages again.
    pub fn wait_until_written(&mut self) -> impl Future<Output = ()> + use<> {
        let written = self.written.take();
        async move {
            if let Some(written) = written {
                // The sender is dropped when the batch has its outcome.
                let _ = written.await;
            }
        }
    }

    /// Answers `reply` once [`Posts::is_settled`].
    pub fn settle(&mut self, reply: Reply<()>) {
        self.settling.push(reply);
        self.answer_settled();
    }

    fn answer_settled(&mut self) {
        if self.is_settled() {
            self.settling.drain(..).for_each(|reply| reply.send(Ok(())));
        }
    }
}

impl Handler<Ask<Post>> for Room {
    type Result = ();

    fn handle(&mut self, ask: Ask<Post>, ctx: &mut Self::Context) {
        supervision::fault!("room");
        let Some(ask) = self.check_age(ask, ctx) else { return };
        let allowed = self.check(&ask.question.author, Act::Post);
        if let Err(refused) = allowed {
            return self.refuse_or_revalidate(ask, refused, ctx);
        }
        if let Err(ask) = self.posts.queue.push(ask) {
            return ask.reply.send(Err(Error::full()));
        }
        self.write_next(ctx);
    }
}

impl Room {
    /// The posts of the next batch. Expired posts are refused, and so are posts whose author may no longer post, because the room has
    /// changed while they waited.
    fn next_batch(&mut self) -> Vec<Ask<Post>> {
        loop {
            let (batch, expired) = self.posts.queue.next(Instant::now());
            expired.into_iter().for_each(|ask| ask.reply.send(Err(Error::late())));
            let is_last = batch.is_empty();
            let mut allowed = Vec::with_capacity(batch.len());
            for ask in batch {
                match self.check_waiting(&ask.question.author) {
                    Ok(()) => allowed.push(ask),
                    Err(refused) => ask.reply.send(Err(refused)),
                }
            }
            if is_last || !allowed.is_empty() {
                return allowed;
            }
        }
    }

    /// Checks that a post that was accepted before is still permitted. A stopping room stores the posts that it has accepted.
    fn check_waiting(&self, author: &Username) -> Result<(), Error> {
        match self.state {
            State::Archived => Err(Error::NotFound),
            State::Open | State::Stopping => self.members.check(author, Act::Post, &self.settings),
        }
    }

    /// Starts the next batch unless one is in flight or the queue is empty.
    fn write_next(&mut self, ctx: &mut Context<Self>) {
        if self.posts.in_flight {
            return;
        }
        let batch = self.next_batch();
        if batch.is_empty() {
            self.posts.answer_settled();
            return self.stop_if_settled(ctx);
        }
        let ids: Vec<String> = match batch.iter().map(|_| new_id()).collect() {
            Ok(ids) => ids,
            Err(error) => {
                batch.into_iter().for_each(|ask| ask.reply.send(Err(Error::clone(&error))));
                return self.write_next(ctx);
            }
        };
        self.posts.in_flight = true;
        let (posts, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|ask| (ask.question, ask.reply)).unzip();
        let pending = ids.iter().cloned().zip(replies).map(|(id, reply)| PendingPost { id, reply });
        let pending: Vec<PendingPost> = pending.collect();
        let write = batch::write(self.parts.clone(), self.name.clone(), self.posts.head, posts, ids);
        let broker = self.parts.broker.clone();
        let pacing = broker.begin_batch(&self.name);
        let (done, has_outcome) = oneshot::channel();
        self.posts.written = Some(has_outcome);
        // In a task of its own: the actor does not poll its futures during a change, which waits for the outcome.
        let written = actix_rt::spawn(async move {
            // After this deadline the outcome is unknown: the store may still commit the batch.
            let (head, result) =
                timeout(STORE_DEADLINE, write).await.unwrap_or_else(|_| (None, Err(Error::late())));
            batch::answer(pending, result);
            drop(done);
            // Backpressure: the next batch waits until this one was handed to the sockets and the room's clients have caught up.
            // A room is never faster than its readers, and no other room waits for them.
            let delivered = async {
                broker.flush().await;
                pacing.done().await;
            };
            let _ = timeout(STORE_DEADLINE, delivered).await;
            head
        });
        ctx.spawn(written.into_actor(self).map(move |head, room, ctx| {
            room.posts.in_flight = false;
            room.posts.head = head.unwrap_or(None);
            if room.settings.ephemeral {
                room.trim(ctx);
            }
            room.write_next(ctx);
        }));
    }
}
