//! Posting: who may, then in batches into history, then the answers. While one batch is being written the next one gathers,
//! so a busy room needs few writes and a quiet one does not wait.

use std::time::Instant;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::time::timeout;

use super::{
    Room,
    batch::{self, Asked},
    post::Post,
    queue::{Queue, Waiting},
};
use crate::{
    Error,
    ask::{Ask, Reply},
    config::STORE_DEADLINE,
    history::{Head, weight},
    id::new_id,
};

/// What a room knows of its posts.
pub struct Posts {
    queue: Queue<Ask<Post>>,
    /// Where the room ends; none while an outcome is unknown: then the store is asked first.
    head: Option<Head>,
    in_flight: bool,
    /// Who waits until everything has its outcome.
    settling: Vec<Reply<()>>,
}

impl Waiting for Ask<Post> {
    fn bytes(&self) -> usize {
        weight(self.question.text.as_str())
    }

    fn is_over(&self, now: Instant) -> bool {
        self.reply.is_closed() || self.question.deadline <= now
    }
}

impl Posts {
    /// Nothing waits, and the room ends at `head`.
    pub fn new(head: Head) -> Self {
        Self { queue: Queue::new(), head: Some(head), in_flight: false, settling: Vec::new() }
    }

    /// Whether every accepted post has its outcome.
    pub fn is_settled(&self) -> bool {
        !self.in_flight && self.queue.len() == 0
    }

    /// Asks the store where the room ends before the next batch.
    pub fn forget_head(&mut self) {
        self.head = None;
    }

    /// Answers once [`Posts::is_settled`].
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
        let allowed = self.open().and_then(|()| self.members.check_member(&ask.question.author));
        if let Err(refused) = allowed {
            return self.doubt(ask, refused, ctx);
        }
        if let Err(ask) = self.posts.queue.push(ask) {
            return ask.reply.send(Err(Error::full()));
        }
        self.write_next(ctx);
    }
}

impl Room {
    /// Starts the next batch, unless one is under way or nothing waits.
    fn write_next(&mut self, ctx: &mut Context<Self>) {
        if self.posts.in_flight {
            return;
        }
        let (waiting, over) = self.posts.queue.next(Instant::now());
        over.into_iter().for_each(|ask| ask.reply.send(Err(Error::late())));
        if waiting.is_empty() {
            self.posts.answer_settled();
            return self.stop_if_settled(ctx);
        }
        let ids: Vec<String> = match waiting.iter().map(|_| new_id()).collect() {
            Ok(ids) => ids,
            Err(error) => {
                waiting.into_iter().for_each(|ask| ask.reply.send(Err(Error::clone(&error))));
                return self.write_next(ctx);
            }
        };
        self.posts.in_flight = true;
        let (posts, replies): (Vec<_>, Vec<_>) =
            waiting.into_iter().map(|ask| (ask.question, ask.reply)).unzip();
        let asked = ids.iter().zip(replies).zip(&posts).map(|((id, reply), post)| Asked {
            id: id.clone(),
            text: post.text.clone(),
            reply,
        });
        let asked: Vec<Asked> = asked.collect();
        let work = batch::write(self.parts.clone(), self.name.clone(), self.posts.head, posts, ids);
        let broker = self.parts.broker.clone();
        let pacing = broker.pace(&self.name);
        let written = async move {
            // After this deadline the outcome is unknown: the store may still commit the batch.
            let (head, result) =
                timeout(STORE_DEADLINE, work).await.unwrap_or_else(|_| (None, Err(Error::late())));
            batch::answer(asked, result);
            // The next batch waits until this one is on its way to everybody and the room's own clients have caught up: a room
            // is never faster than those who read it, and no other room waits for them.
            let told = async {
                broker.flush().await;
                pacing.done().await;
            };
            let _ = timeout(STORE_DEADLINE, told).await;
            head
        };
        ctx.spawn(written.into_actor(self).map(move |head, room, ctx| {
            room.posts.in_flight = false;
            room.posts.head = head;
            if room.ephemeral {
                room.trim(ctx);
            }
            room.write_next(ctx);
        }));
    }
}
