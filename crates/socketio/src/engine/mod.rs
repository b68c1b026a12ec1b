//! Engine.IO 4, pure: packets as text ([`packet`]) and in long-polling bodies ([`payload`]), the handshake
//! ([`handshake`]), and WebSocket frames ([`frame`]). Used by sessions and transports.

pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod packet;
pub(crate) mod payload;
