//! Socket ids.

use std::{fmt, sync::Arc};

use crate::{Room, engine::handshake::new_id};

/// The public id of a socket: unguessable, but no credential. Every socket is in a room of this name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SocketId(Arc<str>);

impl SocketId {
    /// The id as it goes over the tcp.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A fresh one.
    pub fn random() -> Self {
        Self(new_id().into())
    }

    /// The id that a stored text of an earlier one names.
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The room that only this socket is in.
    pub fn room(&self) -> Room {
        self.0.clone()
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
