//! One batch of posts, from drafts to answers. It is stored in one write, and the store publishes it when it is durable.
//! [`super::posts`] builds batches; this module calls history and the broker.

use std::{sync::Arc, time::Instant};

use proto::{
    RoomName, Timestamp,
    event::{Body, Message},
};
use socketio::SocketId;

use super::{
    Parts,
    post::{Post, Posted},
};
use crate::{
    Error,
    ask::Reply,
    broker::{Broker, RoomEvent},
    history::{Appended, Committed, Draft, Outcome, RoomHead, StoredMessage},
};

/// The room's head after a batch (`None` when it is unknown), and one outcome per post.
pub type Written = (Option<RoomHead>, Result<Vec<Outcome>, Error>);

/// A post that waits for its outcome.
pub struct PendingPost {
    /// The id that the message gets.
    pub id: String,
    /// Receives the outcome.
    pub reply: Reply<Posted>,
}

/// How often a batch is tried when another node writes to the room.
const TRIES: usize = 16;

/// Stores a batch. If another node has appended messages in between, the batch is retried with the new head.
pub async fn write(
    parts: Parts,
    room: RoomName,
    head: Option<RoomHead>,
    posts: Vec<Post>,
    ids: Vec<String>,
) -> Written {
    let started = Instant::now();
    let origins: Arc<[Option<SocketId>]> = posts.iter().map(|post| post.origin.clone()).collect();
    let mut head = match head {
        Some(head) => head,
        None => match parts.history.head(&room).await {
            Ok(head) => head,
            Err(error) => return (None, Err(failed(&room, error))),
        },
    };
    for _ in 0..TRIES {
        let drafts = drafts(&posts, &ids, head);
        let on_commit = on_commit(&parts.broker, &room, drafts.clone(), origins.clone());
        match parts.history.append(&room, head.seq, drafts.clone(), on_commit).await {
            Ok(appended) => {
                metrics::histogram!("godzilla_chat_batch_posts").record(posts.len() as f64);
                metrics::histogram!("godzilla_chat_store_seconds").record(started.elapsed().as_secs_f64());
                if appended.outcomes.iter().any(|outcome| *outcome != Outcome::Conflict) {
                    // A message that cannot be published is not acked. The author's resend publishes it.
                    if let Err(error) = parts.broker.publish(&room, stored(&room, &drafts, &appended)).await {
                        return (Some(appended.head), Err(failed(&room, error)));
                    }
                }
                return (Some(appended.head), Ok(appended.outcomes));
            }
            Err(Error::Fenced { head: stored }) => {
                metrics::counter!("godzilla_chat_fenced_total").increment(1);
                head = stored;
            }
            Err(error) => return (None, Err(failed(&room, error))),
        }
    }
    (Some(head), Err(Error::full()))
}

/// The error of a batch. An error of the store names the room and is logged with the refusal of each post.
fn failed(room: &RoomName, error: Error) -> Error {
    if !error.is_of_store() {
        tracing::warn!(%room, %error, "batch of posts failed, the posts are not acked");
    }
    error.of_room(room)
}

fn drafts(posts: &[Post], ids: &[String], head: RoomHead) -> Arc<[Draft]> {
    let now = Timestamp::now();
    let timestamp = now.after(head.timestamp, now);
    let draft = |(post, id): (&Post, &String)| Draft {
        id: id.clone(),
        author: post.author.clone(),
        text: post.text.clone(),
        client_id: post.client_id.clone(),
        timestamp,
        origin: post.origin.as_ref().map(|socket| socket.as_str().to_owned()),
    };
    posts.iter().zip(ids).map(draft).collect()
}

/// The callback of the store's commit: appends the new messages of `drafts` to the broker.
fn on_commit(
    broker: &Broker,
    room: &RoomName,
    drafts: Arc<[Draft]>,
    origins: Arc<[Option<SocketId>]>,
) -> Committed {
    let (broker, room) = (broker.clone(), room.clone());
    Box::new(move |appended: &Appended| {
        for ((draft, origin), outcome) in drafts.iter().zip(&*origins).zip(&appended.outcomes) {
            if let Outcome::Stored { seq, offset: Some(offset) } = *outcome {
                let message = message(&room, draft, seq);
                broker.append(RoomEvent::message(message, origin.clone(), Some(offset)));
            }
        }
    })
}

/// The new messages of a batch. Empty if the batch has duplicates only: a duplicate may have been stored without being published, and
/// [`Broker::publish`] with an empty list checks the store for such messages.
fn stored(room: &RoomName, drafts: &[Draft], appended: &Appended) -> Vec<StoredMessage> {
    let new = drafts.iter().zip(&appended.outcomes).filter_map(|(draft, outcome)| match outcome {
        Outcome::Stored { seq, .. } => {
            Some(StoredMessage { message: message(room, draft, *seq), origin: draft.origin.clone() })
        }
        _ => None,
    });
    new.collect()
}

fn message(room: &RoomName, draft: &Draft, seq: u64) -> Message {
    Message {
        id: draft.id.clone(),
        room: room.clone(),
        seq,
        from: draft.author.clone(),
        data: Body { text: draft.text.as_str().to_owned() },
        timestamp: draft.timestamp,
    }
}

/// Answers every post of a batch, in order.
pub fn answer(posts: Vec<PendingPost>, result: Result<Vec<Outcome>, Error>) {
    let count = |outcome: &'static str, n: usize| {
        metrics::counter!("godzilla_chat_posts_total", "outcome" => outcome).increment(n as u64);
    };
    let outcomes = match result {
        Ok(outcomes) => outcomes,
        Err(error) => {
            count("unavailable", posts.len());
            return posts.into_iter().for_each(|PendingPost { reply, .. }| reply.send(Err(error.clone())));
        }
    };
    for (PendingPost { id, reply }, outcome) in posts.into_iter().zip(outcomes) {
        let (label, answer) = match outcome {
            Outcome::Stored { seq, .. } => ("stored", Ok(Posted { id, seq })),
            Outcome::Duplicate { id, seq } => ("duplicate", Ok(Posted { id, seq })),
            Outcome::Conflict => ("conflict", Err(Error::Conflict("this clientId has another text"))),
        };
        count(label, 1);
        reply.send(answer);
    }
}
