//! The HTTP server of every role that has one, with what all of them want of it: nothing waits without a deadline, nothing is read
//! ahead without a bound. Started by the roles.
//!
//! What `actix_web::HttpServer` does, by hand, because that takes plain TCP connections only and reads ahead what pipelines bring.

mod head_by_head;

use std::{any::Any, fmt, io, net::TcpListener, time::Duration};

use actix_http::{HttpService, Protocol, Request, Response, body::MessageBody};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::{
    dev::{AppConfig, Extensions, Server},
    rt::net::TcpStream,
};

use self::head_by_head::HeadByHead;

/// Connections per worker; beyond that they wait in the backlog.
const CONNECTIONS: usize = 200_000;

/// How long a client's connection may stay open between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a finished connection waits for the client to close. actix reads a clock of half a second for it: less is none.
const DISCONNECT: Duration = Duration::from_secs(1);

/// Blocking calls of one worker at a time.
const BLOCKING: usize = 8;

/// What the roles want different.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long a request head may take.
    pub head: Duration,
    /// How long open requests may go on when the server is stopped, in seconds.
    pub drain: u64,
    /// What is done with a new connection: a `TcpStream`.
    pub on_connect: fn(&dyn Any, &mut Extensions),
}

/// A server on `listener` with the application that `factory` makes for each worker; it runs when it is spawned.
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
    let builder = Server::build();
    let stopped = builder.graceful_shutdown_signal();
    let address = listener.local_addr()?;
    let builder = builder
        .max_concurrent_connections(CONNECTIONS)
        .worker_max_blocking_threads(BLOCKING)
        .shutdown_timeout(settings.drain)
        .disable_signals();
    let builder = builder.listen("http", listener, move || {
        let stopped = stopped.clone();
        let application = factory().into_factory().map_err(|error| error.into().error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopped = stopped.clone();
                async move { stopped.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(settings.head)
            .client_disconnect_timeout(DISCONNECT)
            .h1_allow_half_closed(false)
            .local_addr(address)
            .on_connect_ext(move |io: &HeadByHead<TcpStream>, extensions| {
                (settings.on_connect)(io.get_ref(), extensions);
            })
            .finish(map_config(application, |_| AppConfig::default()));
        fn_service(|io: TcpStream| async move {
            // One that is gone already shows in what is read.
            let _ = io.set_nodelay(true);
            let peer = io.peer_addr().ok();
            Ok((HeadByHead::new(io), Protocol::Http1, peer))
        })
        .and_then(http)
    })?;
    Ok(builder.run())
}
