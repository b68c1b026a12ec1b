//! Where sessions live: a server's numbers, its [`HandlerFactory`] and its registry, on one worker. Made by [`crate::server`], held by
//! sessions and transports.

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
    engine::handshake::new_id,
    socket::LocalSockets,
};

/// What speaks over the sessions of a server.
pub(crate) trait HandlerFactory: 'static {
    type Admission: 'static;
    type SessionHandler: SessionHandler;

    /// May this request open a session?
    fn admit(&self, request: &HttpRequest) -> Result<Self::Admission, Refusal>;

    /// Headers for the answer that opens a session.
    fn headers(&self, request: &HttpRequest) -> Vec<(HeaderName, HeaderValue)>;

    /// Whose request this is; see [`crate::App::owner`].
    fn owner(&self, _: &HttpRequest) -> Option<String> {
        None
    }

    /// Whoever speaks over a new session.
    fn handler(
        &self,
        worker: &Worker<Self>,
        connection: Rc<Connection>,
        admission: Self::Admission,
    ) -> Self::SessionHandler;
}

/// What a server is on one worker.
pub(crate) struct Worker<H: HandlerFactory + ?Sized> {
    pub(crate) host: Arc<H>,
    pub(crate) config: Arc<Config>,
    /// For the send_queues of its sessions.
    pub(crate) limits: Limits,
    pub(crate) registry: Registry<H::SessionHandler>,
    pub(crate) local: Rc<LocalSockets>,
    /// The sessions that opened last, the oldest first, whatever has become of them.
    pub(crate) recent_sessions: RefCell<VecDeque<Weak<Connection>>>,
}

impl<H: HandlerFactory> Worker<H> {
    /// A session has opened. One that opened long before it, and has still joined nothing, must go.
    pub(crate) fn opened(&self, connection: &Rc<Connection>) {
        let mut recent_sessions = self.recent_sessions.borrow_mut();
        recent_sessions.push_back(Rc::downgrade(connection));
        if recent_sessions.len() > self.config.max_unjoined
            && let Some(oldest) = recent_sessions.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.end_unjoined();
        }
    }

    /// A fresh session id, with the node's name in it when it has one.
    pub(crate) fn new_sid(&self) -> Rc<str> {
        format!("{}{}", new_id(), self.config.sid_suffix).into()
    }
}
