//! Posting: the permission check, the batches, and the answers. While one batch is written the next one collects posts. So a busy room
//! needs few writes, and a post to an idle room does not wait.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use proto::event::Act;
use tokio::time::timeout;

use super::{
    Room, State,
    batch::{self, Batch, PendingPost},
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
        let (batch, refused) = self.check_queued(batch);
        let is_refused = !refused.is_empty();
        refused.into_iter().for_each(|(ask, error)| self.refuse_or_revalidate(ask, error, ctx));
        if batch.is_empty() && is_refused {
            return self.write_next(ctx);
        }
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
        self.write(batch, ids, ctx);
    }

    /// The posts that their authors may still make, and the others. The room or its members may have changed since the posts were queued.
    fn check_queued(&self, batch: Vec<Ask<Post>>) -> (Vec<Ask<Post>>, Vec<(Ask<Post>, Error)>) {
        let (mut allowed, mut refused) = (Vec::with_capacity(batch.len()), Vec::new());
        for ask in batch {
            let checked = match self.state {
                State::Archived => Err(Error::NotFound),
                State::Open | State::Stopping => {
                    self.members.check(&ask.question.author, Act::Post, &self.settings)
                }
            };
            match checked {
                Ok(()) => allowed.push(ask),
                Err(error) => refused.push((ask, error)),
            }
        }
        (allowed, refused)
    }

    fn write(&mut self, batch: Vec<Ask<Post>>, ids: Vec<String>, ctx: &mut Context<Self>) {
        self.posts.in_flight = true;
        let (posts, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|ask| (ask.question, ask.reply)).unzip();
        let pending = ids.iter().zip(replies).zip(&posts).map(|((id, reply), post)| PendingPost {
            id: id.clone(),
            text: post.text.clone(),
            reply,
        });
        let pending: Vec<PendingPost> = pending.collect();
        let (posts, head): (Arc<[Post]>, _) = (posts.into(), (self.name.clone(), self.posts.head));
        let (generation, checked) = (self.generation.clone(), self.generation.load(Ordering::Acquire));
        let is_checked = move || generation.load(Ordering::Acquire) == checked;
        let write = batch::write(self.parts.clone(), head, (posts.clone(), ids), is_checked);
        let broker = self.parts.broker.clone();
        let pacing = broker.begin_batch(&self.name);
        let written = async move {
            // After this deadline the outcome is unknown: the store may still commit the batch.
            let late = |_| Batch::Written((None, Err(Error::late())));
            let (head, result) = match timeout(STORE_DEADLINE, write).await.unwrap_or_else(late) {
                Batch::Written(written) => written,
                Batch::Outdated => {
                    let questions = posts.iter().cloned().zip(pending);
                    let asks = questions.map(|(question, PendingPost { reply, .. })| Ask {
                        question,
                        reply,
                        again: false,
                    });
                    return (None, asks.collect());
                }
            };
            batch::answer(pending, result);
            // Backpressure: the next batch waits until this one was handed to the sockets and the room's clients have caught up.
            // A room is never faster than its readers, and no other room waits for them.
            let delivered = async {
                broker.flush().await;
                pacing.done().await;
            };
            let _ = timeout(STORE_DEADLINE, delivered).await;
            (head, Vec::new())
        };
        ctx.spawn(written.into_actor(self).map(move |(head, outdated), room, ctx| {
            room.posts.in_flight = false;
            room.posts.head = head;
            room.posts.queue.put_back(outdated);
            if room.settings.ephemeral {
                room.trim(ctx);
            }
            room.write_next(ctx);
        }));
    }
}
