//! The server: an application, its numbers and the [`Io`], mounted on every worker of an actix-web `HttpServer`.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use actix::Actor;
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
    shard::Shard,
    socket::LocalSockets,
    transport,
};

/// A Socket.IO server for the application `A`. Cheap to clone.
pub struct Server<A: App>(Mounted<SocketIo<A>>);

/// Socket.IO for an application.
pub(crate) struct SocketIo<A>(Arc<A>);

/// A server before it is on a worker.
pub(crate) struct Mounted<H: HandlerFactory> {
    host: Arc<H>,
    config: Arc<Config>,
    limits: Limits,
    registry: Registry<H::SessionHandler>,
    io: Io,
}

impl<A: App> SocketIo<A> {
    /// Socket.IO for `app`.
    pub(crate) fn new(app: A) -> Self {
        Self(Arc::new(app))
    }
}

impl<A: App> HandlerFactory for SocketIo<A> {
    type Admission = A::Admission;
    type SessionHandler = Namespaces<A>;

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
        Namespaces::new(self.0.clone(), worker.config.clone(), worker.local.clone(), connection, admission)
    }
}

impl<H: HandlerFactory> Mounted<H> {
    /// A server not yet mounted.
    pub(crate) fn new(io: Io, host: H, config: Config) -> Self {
        Self {
            host: Arc::new(host),
            limits: Limits::new(&config),
            config: Arc::new(config),
            registry: Registry::default(),
            io,
        }
    }

    /// The server on this worker, which takes part in the io from now on.
    pub(crate) fn worker(&self) -> Worker<H> {
        let local = Rc::new(LocalSockets::new(&self.config));
        self.io.add(Shard::new(local.clone(), self.io.shard_guard()).start());
        Worker {
            host: self.host.clone(),
            config: self.config.clone(),
            limits: self.limits.clone(),
            registry: self.registry.clone(),
            local,
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
            host: self.host.clone(),
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
    /// A server whose sockets hear what is sent on `io`.
    pub fn new(io: Io, app: A, config: Config) -> Self {
        Self(Mounted::new(io, SocketIo::new(app), config))
    }

    /// Adds the server's route to a worker's application. To be called in the factory given to `HttpServer::new`, which runs
    /// once on each worker.
    ///
    /// The `HttpServer` needs [`crate::on_connect`], and `h1_allow_half_closed(false)`: else it takes a client that has closed
    /// its connection for one that still reads, and a poll that is broken off ends its session only with the heartbeat.
    pub fn mount(&self, service: &mut ServiceConfig) {
        self.0.mount(service);
    }
}
