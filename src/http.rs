//! The HTTP server of every role with HTTP. Every wait has a deadline, and every buffer of received bytes has a bound.
//! Started by the roles.
//!
//! It replaces `actix_web::HttpServer`, which accepts plain TCP connections only and reads ahead all pipelined
//! requests.

mod connections;
mod head_rewrite;
mod incomplete_request;
mod pipeline_limit;
mod protocol_detector;

pub use self::incomplete_request::{Limit as UnfinishedRequests, UNFINISHED_REQUESTS};

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

use self::{connections::Connections, pipeline_limit::PipelineLimit, protocol_detector::ForeignProtocol};
use crate::{descriptors, heartbeat, supervision};

/// How long a connection between two roles may stay open between two requests. The gateway closes its idle connections
/// earlier.
const INTERNAL_KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Deadline of a request head of a server without a deadline of its own.
const HEAD: Duration = Duration::from_secs(5);

/// How long a finished connection waits for the client to close. actix measures it with a resolution of half a second,
/// so a shorter time would have no effect.
const DISCONNECT: Duration = Duration::from_secs(1);

/// Deadline of a request head of an operator, and how long a connection may stay open between two of them.
const OPERATORS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long requests of operators may continue after their server was stopped, in seconds.
const OPERATORS_DRAIN: u64 = 1;

/// Maximum number of connections of operators. Those that have sent no complete request are closed for new ones.
const OPERATORS_CONNECTIONS: usize = 64;

/// Maximum number of blocking calls of one worker at a time.
const BLOCKING_THREADS: usize = 8;

/// Settings that differ between roles.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Deadline of a request head.
    pub head: Duration,
    /// The trusted proxies of a server that clients reach. It distributes connections among client addresses, see
    /// [`connections`]. `None` for a server behind gateways. The middleware of a server with trusted proxies counts its requests in
    /// [`Hangup`].
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
    /// Name of the role in the names of the threads. `None` in a process with one role.
    pub role: Option<&'static str>,
    /// Called with each new connection, a `TcpStream`.
    pub on_connect: fn(&dyn Any, &mut Extensions),
    /// The limit of the memory of unfinished requests, which all servers of the process share.
    pub unfinished_requests: UnfinishedRequests,
    /// Whether the server is that for operators: it has one worker, which neither the heartbeats nor the supervision watch.
    pub is_for_operators: bool,
}

impl Settings {
    /// Settings of a server behind gateways.
    pub fn internal(head: Duration, drain: u64, on_connect: fn(&dyn Any, &mut Extensions)) -> Self {
        Self { head, drain, on_connect, ..Self::default() }
    }

    /// Settings of the server for operators.
    pub fn operators(unfinished_requests: UnfinishedRequests) -> Self {
        Self {
            unfinished_requests,
            head: OPERATORS_TIMEOUT,
            keep_alive: OPERATORS_TIMEOUT,
            half_closed: true,
            drain: OPERATORS_DRAIN,
            trusted_proxies: Some(Vec::new()),
            is_for_operators: true,
            ..Self::default()
        }
    }

    /// Number of workers.
    fn threads(&self) -> usize {
        if self.is_for_operators { 1 } else { thread::available_parallelism().map_or(1, usize::from) }
    }

    /// Maximum number of connections of each of `threads` workers.
    fn max_connections(&self, threads: usize) -> usize {
        let max = descriptors::connections(threads, self.descriptors);
        if self.is_for_operators { max.min(OPERATORS_CONNECTIONS) } else { max }
    }

    /// Starts the watch of a worker on its thread. The worker lives as long as the returned part.
    fn begin_worker(&self, number: usize) -> Option<Arc<supervision::Part>> {
        if self.is_for_operators {
            return None;
        }
        let role = self.role.map(|role| format!("{role}-")).unwrap_or_default();
        heartbeat::watch(format!("http-{role}{number}"));
        Some(Arc::new(supervision::Part::new("http worker")))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            head: HEAD,
            trusted_proxies: None,
            keep_alive: INTERNAL_KEEP_ALIVE,
            half_closed: false,
            drain: 1,
            descriptors: 1,
            role: None,
            on_connect: |_, _| (),
            unfinished_requests: UnfinishedRequests::default(),
            is_for_operators: false,
        }
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
    <S::Service as actix_service::Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let threads = settings.threads();
    let builder = Server::build().workers(threads);
    let stopped = builder.graceful_shutdown_signal();
    let address = listener.local_addr()?;
    let max_connections = settings.max_connections(threads);
    let connections =
        settings.trusted_proxies.clone().map(|trusted| Connections::new(max_connections * threads, trusted));
    let builder = builder
        .max_concurrent_connections(max_connections)
        .worker_max_blocking_threads(if settings.is_for_operators { 1 } else { BLOCKING_THREADS })
        .shutdown_timeout(settings.drain)
        .disable_signals();
    let (workers, name) = (AtomicUsize::new(1), if settings.is_for_operators { "admin" } else { "http" });
    let workers = Arc::new(workers);
    let builder = builder.listen(name, listener, move || {
        // Runs on the thread of each worker. The worker's service holds the part: the end of a worker ends its connections.
        let alive = settings.begin_worker(workers.fetch_add(1, Ordering::Relaxed));
        let stopped = stopped.clone();
        let application = factory().into_factory().map_err(Into::<actix_web::Error>::into);
        let is_for_operators = settings.is_for_operators;
        let application = apply_fn_factory(application, move |request: Request, application: &_| {
            let begun = match ForeignProtocol::of(&request) {
                Some(foreign) => Err(foreign.refuse(&request)),
                None => Ok(begin(|| {
                    if !is_for_operators {
                        supervision::fault!("http request");
                    }
                    Service::call(application, request)
                })),
            };
            async move { catch_panic(begun?).await }
        });
        let application = application.map_err(|error| error.error_response());
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
            .on_connect_ext(move |io: &PipelineLimit<TcpStream>, extensions| {
                extensions.insert::<Hangup>(io.hangup());
                (settings.on_connect)(io.get_ref(), extensions);
            })
            .finish(map_config(application, |_| AppConfig::default()));
        let (connections, unfinished) = (connections.clone(), settings.unfinished_requests.clone());
        fn_service(move |io: TcpStream| {
            let _ = &alive;
            if !is_for_operators {
                supervision::fault!("http worker");
            }
            let io = PipelineLimit::new(io, settings.head, unfinished.clone());
            let admitted = admit(io, connections.as_ref());
            async move { admitted }
        })
        .and_then(http)
    })?;
    Ok(builder.run())
}

/// A new connection with its protocol and its peer.
type Admitted = (PipelineLimit<TcpStream>, Protocol, Option<SocketAddr>);

/// Prepares a new connection.
///
/// # Errors
/// When `connections` refuse it. The server then closes it.
fn admit(io: PipelineLimit<TcpStream>, connections: Option<&Connections>) -> Result<Admitted, DispatchError> {
    // An error means that the connection is closed. The first read reports it.
    let _ = io.get_ref().set_nodelay(true);
    let peer = io.get_ref().peer_addr().ok();
    let io = io.with_protocol_detection();
    let io = match connections {
        None => io,
        Some(connections) => {
            let guard = connections.admit(peer, io.hangup().open());
            io.with_guard(guard.ok_or(DispatchError::DisconnectTimeout)?)
        }
    };
    Ok((io, Protocol::Http1, peer))
}

/// Starts a request. A panic is kept for [`catch_panic`].
pub fn begin<F>(call: impl FnOnce() -> F) -> thread::Result<F> {
    catch_unwind(AssertUnwindSafe(call))
}

/// Completes a request. A panic becomes an error with status 500, after which the connection is closed.
pub async fn catch_panic<F, R>(begun: thread::Result<F>) -> Result<R, actix_web::Error>
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

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, LazyLock};

    use actix_web::{
        App, HttpResponse,
        rt::{System, spawn, time::sleep},
        web,
    };
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::admin::{self, Readiness};

    /// Blocks a worker until the test waits, too.
    static GATE: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));

    /// Requests `path`. Returns the connection, which will receive the response.
    async fn asked(address: std::net::SocketAddr, path: &str) -> TcpStream {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        connection
    }

    /// Waits until `path` returns a response that `fits`.
    async fn answers(address: std::net::SocketAddr, path: &str, fits: impl Fn(&str) -> bool) {
        let until = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let mut answer = String::new();
            asked(address, path).await.read_to_string(&mut answer).await.unwrap();
            if fits(&answer) {
                return;
            }
            assert!(std::time::Instant::now() < until, "{answer}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn listener() -> (TcpListener, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Half-sent heads without a deadline, more than the server has connections.
    #[test]
    fn operators_are_answered_beside_half_sent_heads() {
        System::new().block_on(async {
            let (operators, address) = listener();
            let settings = Settings {
                head: Duration::from_secs(600),
                ..Settings::operators(UnfinishedRequests::default())
            };
            let ok = || async { HttpResponse::Ok().finish() };
            let server =
                serve(operators, settings, move || App::new().route("/livez", web::get().to(ok))).unwrap();
            spawn(server);
            // A server that accepts no connection does not answer one either, until the system gives up after minutes.
            let answered = async {
                let mut half_sent = Vec::new();
                for _ in 0..400 {
                    let mut connection = TcpStream::connect(address).await.unwrap();
                    // An error means that the server has closed it for a later one.
                    let _ = connection.write_all(b"GET /livez HTTP/1.1\r\nHost: ").await;
                    half_sent.push(connection);
                }
                for _ in 0..3 {
                    answers(address, "/livez", |answer| answer.contains("200 OK")).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), answered).await.expect("an answer");
        });
    }

    #[test]
    fn livez_and_readyz_name_a_stalled_worker_until_it_runs_again() {
        System::new().block_on(async {
            let ((front, address), (operators, admin)) = (listener(), listener());
            let settings = Settings::internal(Duration::from_secs(5), 1, |_, _| ());
            let blocks = || async {
                GATE.wait();
                HttpResponse::Ok().finish()
            };
            let server =
                serve(front, settings, move || App::new().route("/", web::get().to(blocks))).unwrap();
            spawn(server);
            let readiness = Readiness::new();
            let metrics = PrometheusBuilder::new().build_recorder().handle();
            let unfinished = UnfinishedRequests::default();
            spawn(admin::start(operators, readiness.clone(), metrics, unfinished).unwrap().0);
            readiness.open();
            answers(admin, "/livez", |answer| answer.contains("200 OK")).await;

            let waiting = asked(address, "/").await;
            let names = |answer: &str| answer.contains(" 503 ") && answer.contains("thread http-");
            answers(admin, "/livez", names).await;
            answers(admin, "/readyz", names).await;

            GATE.wait();
            answers(admin, "/livez", |answer| answer.contains("200 OK")).await;
            answers(admin, "/readyz", |answer| answer.contains("200 OK")).await;
            drop(waiting);
        });
    }
}
