//! Socket.IO 5 packets, pure: [`decode()`] parses the text of an Engine.IO message, [`assemble`] collects
//! binary attachments, [`encode`] writes. Used by [`crate::namespaces`] and [`crate::Encoded`].

mod assemble;
mod decode;
mod encode;

use bytes::Bytes;
use serde_json::Value;

pub(crate) use assemble::Assembler;
pub(crate) use decode::decode;
pub(crate) use encode::{ack_text, connect_error_text, connect_text, disconnect_text, event_text};

/// A packet with all its attachments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    /// The namespace, `/` by default.
    pub(crate) namespace: String,
    /// The type and content.
    pub(crate) kind: PacketKind,
}

/// The type of a packet and its content.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PacketKind {
    /// `0`: joins the namespace. The payload is an object, empty if absent.
    Connect(Value),
    /// `1`: leaves the namespace.
    Disconnect,
    /// `2` or `5`: an event. `args` starts with the name, which may be a number.
    Event { id: Option<u64>, args: Vec<Value>, attachments: Vec<Bytes> },
    /// `3` or `6`: the ack to an event of the server.
    Ack { id: u64, args: Vec<Value>, attachments: Vec<Bytes> },
    /// `4`: valid only from servers.
    ConnectError,
    /// `0` with a payload that is JSON and cannot be represented.
    UnreadableConnect,
    /// `2` or `5` with arguments that are JSON and cannot be represented. `name` is empty for a number.
    UnreadableEvent { id: Option<u64>, name: String },
    /// `3` or `6` with arguments that are JSON and cannot be represented.
    UnreadableAck,
}

/// A decoded text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decoded {
    /// A complete packet.
    Complete(Packet),
    /// A packet without its attachments: this number of binary messages must follow.
    Incomplete(Packet, usize),
}

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// The text is not a packet.
    Malformed,
    /// The packet announces more attachments than allowed.
    TooManyAttachments,
}
