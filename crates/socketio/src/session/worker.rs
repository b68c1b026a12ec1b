//! A server on one worker: its configuration, its [`HandlerFactory`] and its registry. Created by
//! [`crate::server`], used by sessions and transports.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::{Rc, Weak},
    sync::Arc,
};

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
};

use super::{handler::SessionHandler, registry::Registry};
use crate::{
    Config,
    app::Refusal,
    connection::{Connection, send_queue::Limits},
    engine::handshake::NoEntropy,
    engine::handshake::new_id,
    io::NumberedIo,
    socket::LocalSockets,
};

/// Creates the handlers of a server's sessions.
pub(crate) trait HandlerFactory: 'static {
    type Admission: 'static;
    type Handler: SessionHandler;

    /// See [`crate::App::admit`].
    fn admit(&self, request: &HttpRequest) -> Result<Self::Admission, Refusal>;

    /// See [`crate::App::headers`].
    fn headers(&self, request: &HttpRequest) -> Vec<(HeaderName, HeaderValue)>;

    /// See [`crate::App::owner`].
    fn owner(&self, _: &HttpRequest) -> Option<String> {
        None
    }

    /// The handler of a new session.
    fn handler(
        &self,
        worker: &Worker<Self>,
        connection: Rc<Connection>,
        admission: Self::Admission,
    ) -> Self::Handler;
}

/// A server on one worker.
pub(crate) struct Worker<H: HandlerFactory + ?Sized> {
    pub(crate) factory: Arc<H>,
    pub(crate) config: Arc<Config>,
    /// The limits of the sessions' send queues.
    pub(crate) limits: Limits,
    pub(crate) registry: Registry<H::Handler>,
    pub(crate) local: Rc<LocalSockets>,
    /// The log for connection state recovery.
    pub(crate) recovery: Option<Rc<NumberedIo>>,
    /// The sessions that opened last, the oldest first. They may have ended.
    pub(crate) recent_sessions: RefCell<VecDeque<Weak<Connection>>>,
}

impl<H: HandlerFactory> Worker<H> {
    /// Records a session that has opened. Ends the session that opened [`Config::max_unjoined`] sessions
    /// before it if that one has joined no namespace.
    pub(crate) fn opened(&self, connection: &Rc<Connection>) {
        let mut recent_sessions = self.recent_sessions.borrow_mut();
        recent_sessions.push_back(Rc::downgrade(connection));
        if recent_sessions.len() > self.config.max_unjoined
            && let Some(oldest) = recent_sessions.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.end_unjoined();
        }
    }

    /// A new session id with the configured suffix.
    ///
    /// # Errors
    /// [`NoEntropy`].
    pub(crate) fn new_sid(&self) -> Result<Rc<str>, NoEntropy> {
        Ok(format!("{}{}", new_id()?, self.config.sid_suffix).into())
    }
}
