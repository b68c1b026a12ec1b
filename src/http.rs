//! The HTTP server of every role with HTTP. Every wait has a deadline, and every buffer of received bytes has a bound.
//!
//! It replaces `actix_web::HttpServer`, which accepts plain TCP connections only: received bytes pass a [`Connection`].

mod connection;
mod shares;

pub use self::shares::Unfinished;

use std::{
    any::Any,
    fmt, io,
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use actix_http::{HttpService, Protocol, Request, Response, body::MessageBody, error::DispatchError};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service, map_config,
};
use actix_web::{
    HttpResponse,
    dev::{AppConfig, Extensions, Server},
    error::InternalError,
    rt::net::TcpStream,
};
use futures_util::FutureExt;
use gateway::{Hangup, Network};
use proto::Refusal;

use self::{connection::Connection, shares::AddressShares};
use crate::{heartbeat, limits, supervision};

/// Deadline of a request head, and how long a connection may stay open between two requests, of the server for operators.
const OPERATORS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection between two roles may stay open between two requests. The gateway closes its idle connections earlier.
const INTERNAL_KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a finished connection waits for the client to close.
const DISCONNECT: Duration = Duration::from_secs(1);

/// Maximum number of blocking calls of one worker at a time.
const BLOCKING_THREADS: usize = 8;

/// Settings that differ between servers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Deadline of a request head.
    pub head: Duration,
    /// The trusted proxies of a server that clients reach: every other address has at most half of all connections. `None` for a server
    /// behind gateways.
    pub trusted_proxies: Option<Vec<Network>>,
    /// How long a connection may stay open between two requests.
    pub keep_alive: Duration,
    /// Whether a client that closes its sending side after a request still receives the response. Requests that wait
    /// for events must then watch [`Hangup`], which every connection has.
    pub half_closed: bool,
    /// How long requests in progress may continue after the server was stopped, in seconds.
    pub drain: u64,
    /// Number of descriptors per connection, including those of connections to other services.
    pub descriptors: u64,
    /// Called with each new connection, a `TcpStream`.
    pub on_connect: fn(&dyn Any, &mut Extensions),
    /// The limit of the memory of unfinished requests, which all servers of the process share.
    pub unfinished: Unfinished,
    /// The name of the threads in `/livez`. `None`: one worker, which is not watched.
    pub name: Option<String>,
}

impl Settings {
    /// Settings of a server behind gateways.
    pub fn internal(head: Duration, drain: u64) -> Self {
        Self {
            head,
            trusted_proxies: None,
            keep_alive: INTERNAL_KEEP_ALIVE,
            half_closed: false,
            drain,
            descriptors: 1,
            on_connect: |_, _| (),
            unfinished: Unfinished::default(),
            name: None,
        }
    }

    /// Settings of the server for operators.
    pub fn operators(unfinished: Unfinished) -> Self {
        let keep_alive = OPERATORS_TIMEOUT;
        Self { keep_alive, half_closed: true, unfinished, ..Self::internal(OPERATORS_TIMEOUT, 1) }
    }
}

/// Creates a server on `listener`, with one application from `factory` for each worker. The caller spawns it.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve<F, I, S, B>(listener: TcpListener, settings: Settings, factory: F) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let threads = if settings.name.is_some() { limits::cores() } else { 1 };
    let connections = limits::connections(threads, settings.descriptors);
    let shares =
        settings.trusted_proxies.clone().map(|trusted| AddressShares::new(connections * threads, trusted));
    let builder = Server::build()
        .workers(threads)
        .max_concurrent_connections(connections)
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .shutdown_timeout(settings.drain)
        .disable_signals();
    let (stopped, address) = (builder.graceful_shutdown_signal(), listener.local_addr()?);
    let workers = Arc::new(AtomicUsize::new(1));
    let builder = builder.listen("http", listener, move || {
        // Runs on the thread of each worker. The worker's service holds the part: the end of a worker ends its connections.
        let alive = begin_worker(settings.name.as_deref(), workers.fetch_add(1, Ordering::Relaxed));
        let is_watched = alive.is_some();
        let application = factory().into_factory().map_err(Into::<actix_web::Error>::into);
        let application = apply_fn_factory(application, move |request: Request, application: &_| {
            let call = || {
                if is_watched {
                    supervision::fault!("http request");
                }
                Service::call(application, request)
            };
            catch_panic(catch_unwind(AssertUnwindSafe(call)))
        });
        let stopped = stopped.clone();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopped = stopped.clone();
                async move { stopped.notified().await }
            })
            .keep_alive(settings.keep_alive)
            .client_request_timeout(settings.head)
            .client_disconnect_timeout(DISCONNECT)
            .h1_allow_half_closed(settings.half_closed)
            .local_addr(address)
            .on_connect_ext(move |io: &Connection<TcpStream>, extensions| {
                extensions.insert::<Hangup>(io.hangup());
                (settings.on_connect)(io.get_ref(), extensions);
            })
            .finish(map_config(application.map_err(|error| error.error_response()), |_| {
                AppConfig::default()
            }));
        let (shares, settings) = (shares.clone(), settings.clone());
        fn_service(move |io: TcpStream| {
            let _ = &alive;
            if is_watched {
                supervision::fault!("http worker");
            }
            let admitted = admit(io, &settings, shares.as_ref());
            async move { admitted }
        })
        .and_then(http)
    })?;
    Ok(builder.run())
}

/// Prepares a new connection: it, its protocol and its peer.
///
/// # Errors
/// When its address has its share. The server then closes it.
fn admit(
    io: TcpStream,
    settings: &Settings,
    shares: Option<&AddressShares>,
) -> Result<(Connection<TcpStream>, Protocol, Option<SocketAddr>), DispatchError> {
    // An error means that the connection is closed. The first read reports it.
    let _ = io.set_nodelay(true);
    let peer = io.peer_addr().ok();
    let share = match shares {
        Some(shares) => Some(shares.admit(peer).ok_or(DispatchError::DisconnectTimeout)?),
        None => None,
    };
    Ok((Connection::new(io, settings.head, settings.unfinished.clone(), share), Protocol::Http1, peer))
}

/// Starts the watch of a worker on its thread. The worker lives as long as the returned part.
fn begin_worker(name: Option<&str>, number: usize) -> Option<Arc<supervision::Part>> {
    heartbeat::watch(format!("{}-{number}", name?));
    Some(Arc::new(supervision::Part::new("http worker")))
}

/// Completes a request. A panic becomes an error with status 500, after which the connection is closed.
async fn catch_panic<F, R>(begun: thread::Result<F>) -> Result<R, actix_web::Error>
where
    F: Future<Output = Result<R, actix_web::Error>>,
{
    let outcome = match begun {
        Ok(answer) => AssertUnwindSafe(answer).catch_unwind().await,
        Err(panic) => Err(panic),
    };
    // The panic hook has reported the panic.
    outcome.unwrap_or_else(|_| {
        let refusal = Refusal::new(500, "Internal Server Error");
        let answer = HttpResponse::InternalServerError().force_close().json(refusal);
        Err(InternalError::from_response("a request panicked", answer).into())
    })
}
