//! The ids of sockets.

use std::{fmt, sync::Arc};

use crate::{
    Room,
    engine::handshake::{NoEntropy, new_id},
};

/// The public id of a socket. Unguessable, but not a credential. Every socket is in the room with its id as
/// name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SocketId(Arc<str>);

impl SocketId {
    /// The id as text, as clients receive it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A new random id.
    ///
    /// # Errors
    /// [`NoEntropy`].
    pub fn random() -> Result<Self, NoEntropy> {
        Ok(Self(new_id()?.into()))
    }

    /// An id from its stored text.
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The room that contains only this socket.
    pub fn room(&self) -> Room {
        self.0.clone()
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
