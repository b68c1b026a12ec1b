//! Where sessions live: a server's numbers, its [`Host`] and its registry, on one worker. Made by [`crate::server`], held by
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

use super::{occupant::Occupant, registry::Registry};
use crate::{
    Config,
    app::Refusal,
    engine::handshake::new_id,
    link::{Link, outbox::Limits},
    socket::Local,
};

/// What speaks over the sessions of a server.
pub(crate) trait Host: 'static {
    type Admission: 'static;
    type Occupant: Occupant;

    /// May this request open a session?
    fn admit(&self, request: &HttpRequest) -> Result<Self::Admission, Refusal>;

    /// Headers for the answer that opens a session.
    fn headers(&self, request: &HttpRequest) -> Vec<(HeaderName, HeaderValue)>;

    /// Whose request this is; see [`crate::App::owner`].
    fn owner(&self, _: &HttpRequest) -> Option<String> {
        None
    }

    /// Whoever speaks over a new session.
    fn occupant(&self, worker: &Worker<Self>, link: Rc<Link>, admission: Self::Admission) -> Self::Occupant;
}

/// What a server is on one worker.
pub(crate) struct Worker<H: Host + ?Sized> {
    pub(crate) host: Arc<H>,
    pub(crate) config: Arc<Config>,
    /// For the outboxes of its sessions.
    pub(crate) limits: Limits,
    pub(crate) registry: Registry<H::Occupant>,
    pub(crate) local: Rc<Local>,
    /// The sessions that opened last, the earliest first, whatever has become of them.
    pub(crate) latest: RefCell<VecDeque<Weak<Link>>>,
}

impl<H: Host> Worker<H> {
    /// A session has opened. One that opened long before it, and has still joined nothing, must go.
    pub(crate) fn opened(&self, link: &Rc<Link>) {
        let mut latest = self.latest.borrow_mut();
        latest.push_back(Rc::downgrade(link));
        if latest.len() > self.config.max_unjoined
            && let Some(earliest) = latest.pop_front().and_then(|earliest| earliest.upgrade())
        {
            earliest.end_unjoined();
        }
    }

    /// A fresh session id, with the node's name in it when it has one.
    pub(crate) fn new_sid(&self) -> Rc<str> {
        format!("{}{}", new_id(), self.config.sid_suffix).into()
    }
}
