//! Engine.IO without Socket.IO: only messages over a session. For applications with their own protocol on
//! top.

use std::{rc::Rc, sync::Arc};

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
    web::ServiceConfig,
};
use bytes::Bytes;

use crate::{
    Config, Io,
    app::Refusal,
    close::CloseReason,
    connection::Connection,
    engine::frame,
    request::RequestHead,
    server::Mounted,
    session::{
        handler::{SessionContext, SessionHandler},
        worker::{HandlerFactory, Worker},
    },
    socket::LocalSockets,
};

/// An application on Engine.IO alone. One instance serves all workers.
pub trait EngineApp: Send + Sync + 'static {
    /// The result of [`EngineApp::admit`].
    type Admission: 'static;
    /// The handler of one session.
    type Peer: EnginePeer;

    /// Decides whether this HTTP request may open a session.
    ///
    /// # Errors
    /// A refusal becomes an HTTP response with status 403.
    fn admit(&self, request: &HttpRequest) -> Result<Self::Admission, Refusal>;

    /// Additional headers of the response that opens a session, for example cookies.
    fn headers(&self, _: &HttpRequest) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    /// A session has opened. What the application sends here follows the open packet directly.
    fn open(&self, socket: EngineSocket, admission: Self::Admission) -> Self::Peer;
}

/// The handler of one session. It stays on one worker. Its methods must not block.
pub trait EnginePeer: Unpin + 'static {
    /// The client sent a text message.
    fn text(&mut self, text: &str);

    /// The client sent a binary message.
    fn binary(&mut self, data: Bytes);

    /// The session has ended.
    fn closed(&mut self, _: CloseReason) {}
}

/// The sending side of one session. Cheap to clone; stays on its worker.
#[derive(Clone)]
pub struct EngineSocket {
    connection: Rc<Connection>,
    local: Rc<LocalSockets>,
}

impl EngineSocket {
    /// Sends a text message.
    pub fn send_text(&self, text: &str) {
        self.connection.push(frame::text(&["4", text]), false, self.local.heartbeats.now());
    }

    /// Sends a binary message.
    pub fn send_binary(&self, data: &[u8]) {
        self.connection.push(frame::binary(data), false, self.local.heartbeats.now());
    }

    /// The session's id. It is a credential: with it, requests can be sent on behalf of this client.
    pub fn session_id(&self) -> &str {
        &self.connection.sid
    }

    /// The head of the request that opened the session. `None` unless [`Config::request_heads`] is set.
    pub fn handshake(&self) -> Option<Arc<RequestHead>> {
        self.connection.handshake()
    }

    /// The head of the session's latest request. In [`EnginePeer::text`] and [`EnginePeer::binary`] it is the
    /// request with the message: the POST, or the WebSocket's upgrade. `None` unless
    /// [`Config::request_heads`] is set.
    pub fn request(&self) -> Option<Arc<RequestHead>> {
        self.connection.request()
    }

    /// Ends the session.
    pub fn close(&self, reason: CloseReason) {
        self.connection.end(reason);
    }

    /// The name of the session's current transport.
    pub fn transport(&self) -> &'static str {
        self.connection.transport()
    }
}

/// An Engine.IO server for the application `E`. Cheap to clone.
pub struct EngineServer<E: EngineApp>(Mounted<EngineOnly<E>>);

impl<E: EngineApp> Clone for EngineServer<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: EngineApp> EngineServer<E> {
    /// A server with this configuration. [`Config::path`] is usually `/engine.io/`.
    pub fn new(app: E, config: Config) -> Self {
        Self(Mounted::new(Io::new(), EngineOnly(Arc::new(app)), config))
    }

    /// Adds the server's route to a worker's application, as [`crate::Server::mount`] does.
    pub fn mount(&self, service: &mut ServiceConfig) {
        self.0.mount(service);
    }
}

struct EngineOnly<E>(Arc<E>);

/// Connects one session to the application. `peer` is `None` until the session is open.
struct EngineHandler<E: EngineApp> {
    app: Arc<E>,
    socket: EngineSocket,
    admission: Option<E::Admission>,
    peer: Option<E::Peer>,
}

impl<E: EngineApp> Unpin for EngineHandler<E> {}

impl<E: EngineApp> HandlerFactory for EngineOnly<E> {
    type Admission = E::Admission;
    type Handler = EngineHandler<E>;

    fn admit(&self, request: &HttpRequest) -> Result<E::Admission, Refusal> {
        self.0.admit(request)
    }

    fn headers(&self, request: &HttpRequest) -> Vec<(HeaderName, HeaderValue)> {
        self.0.headers(request)
    }

    fn handler(
        &self,
        worker: &Worker<Self>,
        connection: Rc<Connection>,
        admission: E::Admission,
    ) -> EngineHandler<E> {
        // There are no namespaces to join without Socket.IO.
        connection.timer.borrow_mut().on_join();
        let socket = EngineSocket { connection, local: worker.local.clone() };
        EngineHandler { app: self.0.clone(), socket, admission: Some(admission), peer: None }
    }
}

impl<E: EngineApp> SessionHandler for EngineHandler<E> {
    fn opened(&mut self) {
        self.peer = self.admission.take().map(|admission| self.app.open(self.socket.clone(), admission));
    }

    fn text(&mut self, text: &str, _: &mut SessionContext<Self>) -> Result<(), CloseReason> {
        self.peer.iter_mut().for_each(|peer| peer.text(text));
        Ok(())
    }

    fn binary(&mut self, data: Bytes, _: &mut SessionContext<Self>) -> Result<(), CloseReason> {
        self.peer.iter_mut().for_each(|peer| peer.binary(data.clone()));
        Ok(())
    }

    fn disconnect_namespace(&mut self, _: &str) {}

    fn closed(&mut self, reason: CloseReason) {
        self.peer.iter_mut().for_each(|peer| peer.closed(reason));
    }
}
