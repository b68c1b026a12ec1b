//! A client's ack to an event that the server sent, and why an ack can be missing. Returned by
//! [`crate::Socket`] and [`crate::Io`].

use bytes::Bytes;
use serde_json::Value;

/// Why no ack was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// The timeout elapsed.
    #[error("the client did not acknowledge in time")]
    Timeout,
    /// The client has left the namespace, or never joined it.
    #[error("the client has left")]
    Closed,
    /// The limit [`crate::Config::max_pending_acks`] is reached for this client.
    #[error("too many acks are pending for this client")]
    TooMany,
    /// The arguments do not serialise to an array.
    #[error("the arguments do not serialise to an array")]
    Arguments,
}

/// The content of a client's ack.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Its arguments.
    pub args: Vec<Value>,
    /// The binary arguments. `args` refers to them by `{"_placeholder":true,"num":N}`.
    pub attachments: Vec<Bytes>,
}
