//! A post and its answer. Asked of a [`super::Room`] by clients, HTTP and seeds.

use std::time::Instant;

use proto::{Username, event::ClientId};
use serde::Serialize;
use socketio::SocketId;

use crate::{ask::Question, text::Text};

/// Say something.
#[derive(Debug, Clone)]
pub struct Post {
    /// Who says it.
    pub author: Username,
    /// What.
    pub text: Text,
    /// The author's own id of it.
    pub client_id: Option<ClientId>,
    /// The socket it came from; it alone does not hear the message.
    pub origin: Option<SocketId>,
    /// When nobody waits for the answer any more: it is not said after that.
    pub deadline: Instant,
}

/// A message that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Posted {
    /// Its id.
    pub id: String,
    /// Its place in the room.
    pub seq: u64,
}

impl Question for Post {
    type Answer = Posted;
}
