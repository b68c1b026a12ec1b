//! What a client responses to an event of ours, or why it does not. Given by [`crate::Socket`] and [`crate::Io`].

use bytes::Bytes;
use serde_json::Value;

/// Why a client's ack did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// Not in time.
    #[error("the client did not response in time")]
    Timeout,
    /// The client has left, or was never in.
    #[error("the client has left")]
    Closed,
    /// Too many acks are pending_acks from this client.
    #[error("too many acks are pending_acks from this client")]
    TooMany,
    /// The arguments do not serialise to an array.
    #[error("the arguments cannot be sent")]
    Arguments,
}

/// A client's ack.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Its arguments.
    pub args: Vec<Value>,
    /// The binary ones, which `args` refers to.
    pub attachments: Vec<Bytes>,
}
