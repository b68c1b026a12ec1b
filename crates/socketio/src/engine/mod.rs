//! Engine.IO 4, pure: its packets as text ([`packet`]) and in polling bodies ([`payload`]), and the handshake ([`handshake`]). Called by the session machine
//! and the transports; calls nobody.

pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod packet;
pub(crate) mod payload;
