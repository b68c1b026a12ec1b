//! The Socket.IO state machine of one session, pure: a message from the client becomes one [`Effect`], or a
//! reason to close the connection. Driven by [`super::Namespaces`]. Independent of actors, transports and
//! time.

use bytes::Bytes;
use serde_json::Value;

use crate::{
    Config,
    close::CloseReason,
    packet::{Assembler, Packet, PacketKind},
};

/// The namespaces of one client and their states.
#[derive(Debug)]
pub(crate) struct Machine {
    assembler: Assembler,
    namespaces: Vec<(String, Phase)>,
    max_namespaces: usize,
    /// Events for namespaces that the application has not accepted yet, in the order received.
    early: Vec<Effect>,
    early_bytes: usize,
}

/// The largest number of buffered early events of one client.
const MAX_EARLY_EVENTS: usize = 32;

/// The largest total size of the buffered early events, in bytes of their packets.
const MAX_EARLY_BYTES: usize = 16 * 1024;

/// The refusal of a CONNECT whose payload is JSON that cannot be represented.
const UNREADABLE: &str = "The CONNECT payload is nested too deeply or holds a number that is out of range";

/// The state of a namespace that the client has requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The application has not answered yet.
    Joining,
    Joined,
    /// The client has left. Late packets for the namespace are dropped without an error.
    Left,
}

/// The effect of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// No effect.
    None,
    /// The client requests to join a namespace. The application decides.
    Connect { namespace: String, auth: Value },
    /// The client requests a namespace again before the first answer. Stock clients do so when an application
    /// connects a socket that connects automatically. One answer is enough.
    DuplicateConnect { namespace: String },
    /// The client may not join this namespace. The application is not asked.
    Refuse { namespace: String, message: &'static str },
    /// An event for the application.
    Event { namespace: String, id: Option<u64>, args: Vec<Value>, attachments: Vec<Bytes> },
    /// An event whose arguments cannot be represented.
    Unreadable { namespace: String, id: Option<u64>, name: String },
    /// The ack to an event of the server.
    Ack { namespace: String, id: u64, args: Vec<Value>, attachments: Vec<Bytes> },
    /// An ack that cannot be represented. No pending ack is resolved.
    StrayAck,
    /// The client left a namespace.
    Leave { namespace: String },
}

impl Machine {
    /// The machine of a new session.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            assembler: Assembler::new(config.max_attachments, config.max_payload),
            namespaces: Vec::new(),
            max_namespaces: config.max_namespaces,
            early: Vec::new(),
            early_bytes: 0,
        }
    }

    /// Processes a text message.
    ///
    /// # Errors
    /// The reason to close the connection.
    pub(crate) fn text(&mut self, text: &str) -> Result<Effect, CloseReason> {
        let packet = self.assembler.text(text)?;
        match (packet, self.assembler.incomplete_namespace()) {
            (Some(packet), _) => self.packet(packet, text.len()),
            // Attachments are collected only for a namespace that the client has joined.
            (None, Some(namespace)) if matches!(self.phase(namespace), None | Some(Phase::Joining)) => {
                Err(if self.phase(namespace).is_some() {
                    CloseReason::TooEarly
                } else {
                    CloseReason::ProtocolViolation
                })
            }
            (None, _) => Ok(Effect::None),
        }
    }

    /// Processes a binary message.
    ///
    /// # Errors
    /// The reason to close the connection.
    pub(crate) fn binary(&mut self, data: Bytes) -> Result<Effect, CloseReason> {
        let packet = self.assembler.binary(data)?;
        packet.map_or(Ok(Effect::None), |packet| self.packet(packet, MAX_EARLY_BYTES))
    }

    fn packet(&mut self, Packet { namespace, kind }: Packet, bytes: usize) -> Result<Effect, CloseReason> {
        match (kind, self.phase(&namespace)) {
            (PacketKind::Connect(auth), None | Some(Phase::Left)) => Ok(self.connect(namespace, auth)),
            (PacketKind::Connect(_), Some(Phase::Joining)) => Ok(Effect::DuplicateConnect { namespace }),
            (PacketKind::UnreadableConnect, None | Some(Phase::Left)) => {
                Ok(Effect::Refuse { namespace, message: UNREADABLE })
            }
            (PacketKind::Connect(_) | PacketKind::UnreadableConnect | PacketKind::ConnectError, _)
            | (_, None) => Err(CloseReason::ProtocolViolation),
            (PacketKind::Disconnect, Some(Phase::Joining | Phase::Joined)) => {
                self.left(&namespace);
                Ok(Effect::Leave { namespace })
            }
            (_, Some(Phase::Left))
            | (PacketKind::Ack { .. } | PacketKind::UnreadableAck, Some(Phase::Joining)) => Ok(Effect::None),
            (PacketKind::Event { id, args, attachments }, Some(Phase::Joining)) => {
                self.hold(Effect::Event { namespace, id, args, attachments }, bytes)
            }
            (PacketKind::UnreadableEvent { id, name }, Some(Phase::Joining)) => {
                self.hold(Effect::Unreadable { namespace, id, name }, bytes)
            }
            (PacketKind::UnreadableEvent { id, name }, Some(Phase::Joined)) => {
                Ok(Effect::Unreadable { namespace, id, name })
            }
            (PacketKind::UnreadableAck, Some(Phase::Joined)) => Ok(Effect::StrayAck),
            (PacketKind::Event { id, args, attachments }, Some(Phase::Joined)) => {
                Ok(Effect::Event { namespace, id, args, attachments })
            }
            (PacketKind::Ack { id, args, attachments }, Some(Phase::Joined)) => {
                Ok(Effect::Ack { namespace, id, args, attachments })
            }
        }
    }

    fn connect(&mut self, namespace: String, auth: Value) -> Effect {
        let is_requested = self.phase(&namespace).is_some();
        if !is_requested && self.namespaces.len() >= self.max_namespaces {
            return Effect::Refuse { namespace, message: "Too many namespaces" };
        }
        self.set(&namespace, Phase::Joining);
        Effect::Connect { namespace, auth }
    }

    /// Buffers an event that was received before the answer to its CONNECT. The reference implementation
    /// closes the connection; clients in other languages emit directly after CONNECT.
    fn hold(&mut self, event: Effect, bytes: usize) -> Result<Effect, CloseReason> {
        self.early_bytes += bytes;
        if self.early.len() >= MAX_EARLY_EVENTS || self.early_bytes > MAX_EARLY_BYTES {
            return Err(CloseReason::TooEarly);
        }
        self.early.push(event);
        Ok(Effect::None)
    }

    /// The application accepted the client. Returns the early events of this namespace.
    pub(crate) fn joined(&mut self, namespace: &str) -> Vec<Effect> {
        self.set(namespace, Phase::Joined);
        self.take_early(namespace)
    }

    fn take_early(&mut self, wanted: &str) -> Vec<Effect> {
        let is_selected = |event: &mut Effect| {
            matches!(event, Effect::Event { namespace, .. } | Effect::Unreadable { namespace, .. }
                if namespace == wanted)
        };
        let early = self.early.extract_if(.., is_selected).collect();
        if self.early.is_empty() {
            self.early_bytes = 0;
        }
        early
    }

    /// The application refused the client. The client may request the namespace again.
    pub(crate) fn refused(&mut self, namespace: &str) {
        self.namespaces.retain(|(name, _)| name != namespace);
        self.take_early(namespace);
    }

    /// The client is no longer in `namespace`, after a DISCONNECT of either side.
    pub(crate) fn left(&mut self, namespace: &str) {
        self.set(namespace, Phase::Left);
        self.take_early(namespace);
    }

    /// Whether the application has not answered for `namespace` yet.
    pub(crate) fn is_joining(&self, namespace: &str) -> bool {
        self.phase(namespace) == Some(Phase::Joining)
    }

    fn phase(&self, namespace: &str) -> Option<Phase> {
        self.namespaces.iter().find(|(name, _)| name == namespace).map(|(_, phase)| *phase)
    }

    fn set(&mut self, namespace: &str, phase: Phase) {
        match self.namespaces.iter_mut().find(|(name, _)| name == namespace) {
            Some((_, now)) => *now = phase,
            None => self.namespaces.push((namespace.to_owned(), phase)),
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
