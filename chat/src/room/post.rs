//! The question that posts a message to a [`super::Room`], and its answer. Asked by clients, HTTP and `seed`.

use std::time::Instant;

use proto::{Username, event::ClientId};
use serde::Serialize;
use socketio::SocketId;

use crate::{ask::Question, text::Text};

/// A message to post.
#[derive(Debug, Clone)]
pub struct Post {
    /// The author.
    pub author: Username,
    /// The text.
    pub text: Text,
    /// The author's idempotency key. `None` if a resend is a new message.
    pub client_id: Option<ClientId>,
    /// The socket that sent the post. It does not receive the message. `None` over HTTP.
    pub origin: Option<SocketId>,
    /// When the caller stops waiting. A post whose batch starts later is not stored.
    pub deadline: Instant,
}

/// The answer for a stored message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Posted {
    /// The message's id.
    pub id: String,
    /// The message's number in the room.
    pub seq: u64,
}

impl Question for Post {
    type Answer = Posted;
}
