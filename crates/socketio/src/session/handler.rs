//! Who speaks over an Engine.IO session: Socket.IO's namespaces, or an application that wants the bare engine. The session
//! knows it by this trait only.

use actix::Context;
use bytes::Bytes;

use super::Session;
use crate::close::CloseReason;

/// The actor context of a session, for handlers that wait for something.
pub(crate) type SessionContext<O> = Context<Session<O>>;

/// See the module. No method is called after [`SessionHandler::closed`].
pub(crate) trait SessionHandler: Sized + Unpin + 'static {
    /// The session is open: its open packet is on its way.
    fn opened(&mut self);

    /// The client sent a text message.
    fn text(&mut self, text: &str, ctx: &mut SessionContext<Self>) -> Result<(), CloseReason>;

    /// The client sent a binary message.
    fn binary(&mut self, data: Bytes, ctx: &mut SessionContext<Self>) -> Result<(), CloseReason>;

    /// The application put the client out of this namespace.
    fn disconnect_namespace(&mut self, namespace: &str);

    /// The application ends the session: the client is told in words of the handler's own.
    fn disconnect_all(&mut self) {}

    /// The session is about to end for a reason that the client is told.
    fn ending(&mut self, _: CloseReason) {}

    /// The session has ended.
    fn closed(&mut self, reason: CloseReason);
}
