//! An [`App`] that is assembled from handlers of single events, with typed payloads. [`routes`] are the handlers
//! of one namespace, [`ack`] is what a handler answers with.

mod ack;
mod routes;

use std::{cell::Cell, collections::HashMap, rc::Rc, sync::Arc};

use actix_web::HttpRequest;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

pub use self::ack::Ack;
use self::routes::Routes;
use crate::{
    app::{Accepted, App, Connect, Event, Peer, Refusal},
    close::CloseReason,
    socket::{Reply, Socket},
};

/// The largest number of asynchronous handlers that run for one client at a time.
const MAX_RUNNING: usize = 64;

/// An application of handlers. `D` is the data of one client, which [`Router::accept`] returns.
///
/// ```
/// use socketio::Router;
///
/// let app = Router::new()
///     .on("sum", |_, (a, b): (i64, i64), ack| ack.send(&(a + b,)))
///     .on("join", |client, room: String, _| client.join(&room.into()))
///     .of("/news")
///     .on_connect(|client| client.emit_event("welcome", &(client.id().as_str(),)));
/// ```
///
/// A handler's payload is read from the arguments of the event: no argument is `()` or `None`, one is the
/// payload itself, several are a tuple or a sequence. Binary arguments are placeholders
/// ([`Event::args`]); a handler that needs them is a [`Router::fallback`].
///
/// | event | effect |
/// |---|---|
/// | the payload does not fit | the handler is not called. If the client requests an ack: `{"error": "invalid_payload", "message": ".."}` |
/// | 64 asynchronous handlers are running for the client | the same with `"error": "busy"` |
/// | the arguments cannot be represented ([`Peer::unreadable`]) | the same with `"error": "invalid_payload"` |
/// | without a handler | ignored, without an ack, as in the reference implementation |
///
/// Handlers of one client are called in the order of its events. They must not block; [`Router::on_async`] is
/// for handlers that wait.
pub struct Router<D = ()> {
    admit: Box<Admit>,
    accept: Box<Accept<D>>,
    namespaces: HashMap<String, Arc<Routes<D>>>,
    /// The namespace to which handlers are added.
    current: String,
}

type Admit = dyn Fn(&HttpRequest) -> Result<(), Refusal> + Send + Sync;
type Accept<D> = dyn Fn(Connect<()>) -> LocalBoxFuture<'static, Result<D, Refusal>> + Send + Sync;

/// A client of a [`Router`]: its socket, and its data. Cheap to clone; stays on its worker.
pub struct Client<D = ()> {
    socket: Socket,
    data: Rc<D>,
    /// The number of asynchronous handlers that are running.
    running: Rc<Cell<usize>>,
}

/// The peer of one client of a [`Router`].
pub struct RouterPeer<D> {
    client: Client<D>,
    routes: Arc<Routes<D>>,
}

impl Router {
    /// A router that accepts every client in `/`, and has no handlers yet.
    #[allow(clippy::new_without_default, reason = "a router without handlers is not useful")]
    pub fn new() -> Self {
        Self::accept(|_| async { Ok(()) })
    }
}

impl<D: 'static> Router<D> {
    /// A router that decides about each CONNECT with `accept`: it returns the data of the client, or a refusal.
    /// It is called for the namespaces that the router has handlers for; other namespaces are refused with
    /// `Invalid namespace`.
    pub fn accept<F>(accept: impl Fn(Connect<()>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<D, Refusal>> + 'static,
    {
        let (namespaces, current) = (HashMap::from([("/".to_owned(), Arc::default())]), "/".to_owned());
        Self {
            admit: Box::new(|_| Ok(())),
            accept: Box::new(move |connect| Box::pin(accept(connect))),
            namespaces,
            current,
        }
    }

    /// Decides whether an HTTP request may open a session ([`App::admit`]).
    pub fn admit(
        mut self,
        admit: impl Fn(&HttpRequest) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.admit = Box::new(admit);
        self
    }

    /// The handlers that follow belong to `namespace`. Before the first call they belong to `/`.
    pub fn of(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.current);
        self.routes(|_| {})
    }

    /// Calls `handler` for each event `name`. A later handler of the same name replaces it.
    pub fn on<T: DeserializeOwned + 'static>(
        self,
        name: &str,
        handler: impl Fn(&Client<D>, T, Ack) + Send + Sync + 'static,
    ) -> Self {
        self.routes(|routes| routes.on(name, handler))
    }

    /// Calls `handler` for each event `name`, and runs its future on the worker. The futures of one client run
    /// concurrently, at most 64 of them, and continue if the client disconnects.
    pub fn on_async<T, F>(
        self,
        name: &str,
        handler: impl Fn(Client<D>, T, Ack) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.routes(|routes| routes.on_async(name, handler))
    }

    /// Calls `handler` for each event without a handler of its own, with all its arguments.
    pub fn fallback(
        self,
        handler: impl Fn(&Client<D>, Event, Option<Reply>) + Send + Sync + 'static,
    ) -> Self {
        self.routes(|routes| routes.fallback = Some(Box::new(handler)))
    }

    /// Calls `handler` when a client has joined the namespace ([`Peer::connected`]).
    pub fn on_connect(self, handler: impl Fn(&Client<D>) + Send + Sync + 'static) -> Self {
        self.routes(|routes| routes.connected = Some(Box::new(handler)))
    }

    /// Calls `handler` when a client has left the namespace ([`Peer::closed`]).
    pub fn on_disconnect(self, handler: impl Fn(&Client<D>, CloseReason) + Send + Sync + 'static) -> Self {
        self.routes(|routes| routes.closed = Some(Box::new(handler)))
    }

    fn routes(mut self, change: impl FnOnce(&mut Routes<D>)) -> Self {
        let routes = self.namespaces.entry(self.current.clone()).or_default();
        // Not shared before the router is the application of a server.
        if let Some(routes) = Arc::get_mut(routes) {
            change(routes);
        }
        self
    }
}

impl<D> Client<D> {
    /// The data that [`Router::accept`] returned.
    pub fn data(&self) -> &D {
        &self.data
    }
}

impl<D> Clone for Client<D> {
    fn clone(&self) -> Self {
        Self { socket: self.socket.clone(), data: self.data.clone(), running: self.running.clone() }
    }
}

impl<D> std::ops::Deref for Client<D> {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

impl<D: 'static> App for Router<D> {
    type Admission = ();
    type Peer = RouterPeer<D>;

    fn admit(&self, request: &HttpRequest) -> Result<(), Refusal> {
        (self.admit)(request)
    }

    fn connect(
        &self,
        connect: Connect<()>,
    ) -> LocalBoxFuture<'static, Result<Accepted<RouterPeer<D>>, Refusal>> {
        let Some(routes) = self.namespaces.get(&*connect.namespace).cloned() else {
            return Box::pin(async { Err(Refusal::new("Invalid namespace")) });
        };
        let socket = connect.socket.clone();
        let accepted = (self.accept)(connect);
        Box::pin(async move {
            let client = Client { socket, data: Rc::new(accepted.await?), running: Rc::default() };
            Ok(Accepted::new(RouterPeer { client, routes }))
        })
    }
}

impl<D: 'static> Peer for RouterPeer<D> {
    fn connected(&mut self) {
        if let Some(connected) = &self.routes.connected {
            connected(&self.client);
        }
    }

    fn event(&mut self, event: Event, reply: Option<Reply>) {
        self.routes.event(&self.client, event, reply);
    }

    fn unreadable(&mut self, name: &str, reply: Option<Reply>) {
        self.routes.unreadable(name, reply);
    }

    fn closed(&mut self, reason: CloseReason) {
        if let Some(closed) = &self.routes.closed {
            closed(&self.client, reason);
        }
    }
}
