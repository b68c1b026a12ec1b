//! The server: an application, its configuration and the [`Io`], mounted on every worker of an actix-web
//! `HttpServer`.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
    web::{self, ServiceConfig},
};

use crate::{
    Config,
    app::{App, Refusal},
    connection::{Connection, send_queue::Limits},
    io::Io,
    namespaces::Namespaces,
    session::{
        registry::Registry,
        worker::{HandlerFactory, Worker},
    },
    socket::{LocalSockets, SocketLog},
    transport,
};

/// A Socket.IO server for the application `A`. Cheap to clone.
pub struct Server<A: App>(Mounted<SocketIo<A>>);

/// Socket.IO as the handler of sessions, for one application.
pub(crate) struct SocketIo<A>(Arc<A>);

/// A server that is not mounted on a worker yet.
pub(crate) struct Mounted<H: HandlerFactory> {
    factory: Arc<H>,
    config: Arc<Config>,
    limits: Limits,
    registry: Registry<H::Handler>,
    io: Io,
}

impl<A: App> SocketIo<A> {
    /// Creates handlers for `app`.
    pub(crate) fn new(app: A) -> Self {
        Self(Arc::new(app))
    }
}

impl<A: App> HandlerFactory for SocketIo<A> {
    type Admission = A::Admission;
    type Handler = Namespaces<A>;

    fn admit(&self, request: &HttpRequest) -> Result<A::Admission, Refusal> {
        self.0.admit(request)
    }

    fn owner(&self, request: &HttpRequest) -> Option<String> {
        self.0.owner(request)
    }

    fn headers(&self, request: &HttpRequest) -> Vec<(HeaderName, HeaderValue)> {
        self.0.headers(request)
    }

    fn handler(
        &self,
        worker: &Worker<Self>,
        connection: Rc<Connection>,
        admission: A::Admission,
    ) -> Namespaces<A> {
        Namespaces::new(self.0.clone(), worker, connection, admission)
    }
}

impl<H: HandlerFactory> Mounted<H> {
    /// A server that is not mounted yet.
    pub(crate) fn new(io: Io, factory: H, config: Config) -> Self {
        io.recover(&config);
        Self {
            factory: Arc::new(factory),
            limits: Limits::new(&config),
            config: Arc::new(config),
            registry: Registry::default(),
            io,
        }
    }

    /// The server on this worker. Registers the worker's shard with the [`Io`].
    pub(crate) fn worker(&self) -> Worker<H> {
        let recovery = self.io.numbered().map(Rc::new);
        let log = recovery.clone().map(|recovery| recovery as Rc<dyn SocketLog>);
        let local = Rc::new(LocalSockets::new(&self.config, log));
        self.io.add(local.clone());
        Worker {
            factory: self.factory.clone(),
            config: self.config.clone(),
            limits: self.limits.clone(),
            registry: self.registry.clone(),
            local,
            recovery,
            recent_sessions: RefCell::default(),
        }
    }

    /// Adds the server's route to a worker's application.
    pub(crate) fn mount(&self, service: &mut ServiceConfig) {
        let worker = Rc::new(self.worker());
        let resource = web::resource(self.config.path.as_str());
        service
            .service(resource.to(move |request, payload| transport::serve(worker.clone(), request, payload)));
    }
}

impl<H: HandlerFactory> Clone for Mounted<H> {
    fn clone(&self) -> Self {
        Self {
            factory: self.factory.clone(),
            config: self.config.clone(),
            limits: self.limits.clone(),
            registry: self.registry.clone(),
            io: self.io.clone(),
        }
    }
}

impl<A: App> Clone for Server<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: App> Server<A> {
    /// A server whose sockets receive the operations that are sent on `io`.
    pub fn new(io: Io, app: A, config: Config) -> Self {
        Self(Mounted::new(io, SocketIo::new(app), config))
    }

    /// Adds the server's route to a worker's application. Call it in the factory of `HttpServer::new`, which
    /// runs once on each worker.
    ///
    /// The `HttpServer` needs [`crate::on_connect`] and `h1_allow_half_closed(false)`. With half-closed
    /// connections allowed, a client that has closed its connection counts as one that still reads, and an
    /// aborted poll ends its session only when the heartbeat fails.
    pub fn mount(&self, service: &mut ServiceConfig) {
        self.0.mount(service);
    }
}
