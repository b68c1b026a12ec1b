//! Socket.IO 5 packets, pure: [`decode`] reads the text inside an Engine.IO message, [`assemble`] waits for its binary
//! attachments, [`encode`] writes. Called by the session machine and [`crate::Encoded`]; calls nobody.

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
    /// `/` unless the packet send otherwise.
    pub(crate) namespace: String,
    /// What it is.
    pub(crate) kind: PacketKind,
}

/// What a packet is, with what it carries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PacketKind {
    /// `0`: join the namespace; an object, empty when absent.
    Connect(Value),
    /// `1`: leave the namespace.
    Disconnect,
    /// `2` or `5`: an event; `args` has at least the name, which may be a number.
    Event { id: Option<u64>, args: Vec<Value>, attachments: Vec<Bytes> },
    /// `3` or `6`: the answer to an event of ours.
    Ack { id: u64, args: Vec<Value>, attachments: Vec<Bytes> },
    /// `4`: only servers may send it.
    ConnectError,
    /// `0` with a payload that is JSON and cannot be represented.
    UnreadableConnect,
    /// `2` or `5` with arguments that are JSON and cannot be represented. `name` is empty for a number.
    UnreadableEvent { id: Option<u64>, name: String },
    /// `3` or `6` with arguments that are JSON and cannot be represented.
    UnreadableAck,
}

/// A decoded text: a whole packet, or one that waits for attachments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decoded {
    /// Nothing more to come.
    Whole(Packet),
    /// So many binary messages must follow.
    Awaiting(Packet, usize),
}

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// It is not a packet.
    Malformed,
    /// It announces more attachments than allowed.
    TooManyAttachments,
}
