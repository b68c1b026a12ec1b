//! Posting: the permission check, the batches, and the answers. While one batch is written the next one collects posts. So a busy room
//! needs few writes, and a post to an idle room does not wait.

use std::time::Instant;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use proto::event::Act;
use tokio::time::timeout;

use super::{
    Room,
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
    /// Whether a batch is being written.
    in_flight: bool,
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
        Self { queue: Queue::new(), head: Some(head), in_flight: false, settling: Vec::new() }
    }

    /// Whether every accepted post has its outcome.
    pub fn is_settled(&self) -> bool {
        !self.in_flight && self.queue.len() == 0
    }

    /// Discards the cached head. It is read from the store before the next batch.
    pub fn reset_head(&mut self) {
        self.head = None;
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
    /// Starts the next batch unless one is in flight or the queue is empty.
    fn write_next(&mut self, ctx: &mut Context<Self>) {
        if self.posts.in_flight {
            return;
        }
        let (batch, expired) = self.posts.queue.next(Instant::now());
        expired.into_iter().for_each(|ask| ask.reply.send(Err(Error::late())));
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
        let pending = ids.iter().zip(replies).zip(&posts).map(|((id, reply), post)| PendingPost {
            id: id.clone(),
            text: post.text.clone(),
            reply,
        });
        let pending: Vec<PendingPost> = pending.collect();
        let write = batch::write(self.parts.clone(), self.name.clone(), self.posts.head, posts, ids);
        let broker = self.parts.broker.clone();
        let pacing = broker.begin_batch(&self.name);
        let written = async move {
            // After this deadline the outcome is unknown: the store may still commit the batch.
            let (head, result) =
                timeout(STORE_DEADLINE, write).await.unwrap_or_else(|_| (None, Err(Error::late())));
            batch::answer(pending, result);
            // Backpressure: the next batch waits until this one was handed to the sockets and the room's clients have caught up.
            // A room is never faster than its readers, and no other room waits for them.
            let delivered = async {
                broker.flush().await;
                pacing.done().await;
            };
            let _ = timeout(STORE_DEADLINE, delivered).await;
            head
        };
        ctx.spawn(written.into_actor(self).map(move |head, room, ctx| {
            room.posts.in_flight = false;
            room.posts.head = head;
            if room.settings.ephemeral {
                room.trim(ctx);
            }
            room.write_next(ctx);
        }));
    }
}
