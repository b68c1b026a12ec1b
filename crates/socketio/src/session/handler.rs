//! The handler of an Engine.IO session: Socket.IO's namespaces, or an application that uses Engine.IO alone.
//! The session uses it only through this trait.

use actix::Context;
use bytes::Bytes;

use super::Session;
use crate::close::CloseReason;

/// The actor context of a session.
pub(crate) type SessionContext<T> = Context<Session<T>>;

/// The handler of one session. No method is called after [`SessionHandler::closed`].
pub(crate) trait SessionHandler: Sized + Unpin + 'static {
    /// The session is open. Its open packet is queued.
    fn opened(&mut self);

    /// The client sent a text message.
    ///
    /// # Errors
    /// The reason to close the session. With long-polling the client first receives what is queued, and then a
    /// close packet.
    fn text(&mut self, text: &str, ctx: &mut SessionContext<Self>) -> Result<(), CloseReason>;

    /// The client sent a binary message.
    ///
    /// # Errors
    /// The reason to close the session.
    fn binary(&mut self, data: Bytes, ctx: &mut SessionContext<Self>) -> Result<(), CloseReason>;

    /// The application disconnected the client from this namespace.
    fn disconnect_namespace(&mut self, namespace: &str);

    /// The application ends the session. Sends a DISCONNECT packet in every namespace.
    fn disconnect_all(&mut self) {}

    /// The session is about to end for a reason after which the client may still receive packets.
    fn ending(&mut self, _: CloseReason) {}

    /// The session has ended.
    fn closed(&mut self, reason: CloseReason);
}
