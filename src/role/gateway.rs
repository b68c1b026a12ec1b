//! `godzilla gateway`: the gateway in a separate process, in front of accounts and of any number of chat nodes, which
//! it finds in Redis.

use std::{net::TcpListener, sync::Arc, time::Duration};

use ::gateway::{Gateway, Proxy, Upstreams};
use actix_web::{
    App,
    dev::{Server, ServerHandle},
    rt::spawn,
    web,
};
use metrics_exporter_prometheus::PrometheusHandle;
use remote::Location;
use sessions::RedisSessions;

use crate::{
    admin::{self, Probe, Readiness},
    config, descriptors,
    error::Error,
    http::{self, Settings},
    listener::listen,
    nodes::Watcher,
    role::upkeep,
    shutdown::{self, Stop},
    supervision::essential,
    telemetry,
};

/// The parts to end, in the order of the fields.
struct Running {
    /// Not ready first.
    readiness: Arc<Readiness>,
    /// Accepts no new connections.
    http: ServerHandle,
    /// Drains requests in progress and proxied sockets.
    proxy: Proxy,
    /// Answers until the end.
    admin: ServerHandle,
}

/// How long the HTTP server may take to end the remaining connections after the proxy has drained, in seconds.
const HTTP_DRAIN: u64 = 2;

/// Runs until a signal requests the end, then until requests in progress have their responses and all sockets are
/// closed. The services behind the gateway may be unavailable: `/readyz` names the missing ones.
pub fn run(config: config::Gateway) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    let metrics = telemetry::metrics()?;
    descriptors::raise();
    shutdown::run(serve(config, metrics))
}

async fn serve(mut config: config::Gateway, metrics: PrometheusHandle) -> Result<(), Error> {
    let mut stop = Stop::listen()?;
    let url = config.redis.url().map_err(Error::Config)?;
    let redis = Location::new(url.reveal(), &config.deployment.deployment);
    let key = config.secret.key().map_err(Error::Config)?;
    let accounts = config.accounts().map_err(Error::Config)?;
    let watcher = Arc::new(Watcher::start(redis.clone()).map_err(Error::Config)?);
    let sessions = RedisSessions::new(redis, sessions::ages::now).map_err(|error| {
        Error::Config(format!("the value of --redis-url (GODZILLA_REDIS_URL) is refused: {error}"))
    })?;
    let sessions = Arc::new(sessions);
    let listener = listen("--listen", &mut config.gateway.listen)?;
    let operators = listen("--admin-listen", &mut config.admin.admin_listen)?;
    let gateway = Gateway::new(config.gateway.clone(), sessions.clone());
    let proxy = gateway.proxy(Upstreams {
        accounts,
        nodes: watcher.nodes(),
        refresh: watcher.refresh(),
        key,
        payload_limit: config.payload_limit,
    });
    proxy.watch_nodes();
    let readiness = Readiness::new(probes(sessions, watcher, proxy.clone()));
    add_degrading(&readiness, proxy.clone());
    let (server, admin) = admin::start(operators, readiness.clone(), metrics.clone())?;
    spawn(essential("admin server", server));
    let for_upkeep = gateway.clone();
    spawn(upkeep(metrics, move || for_upkeep.remove_idle_clients()));
    let http = http_server(listener, &config.gateway, gateway, proxy.clone())?;
    let running = Running { readiness, http: http.handle(), proxy, admin };
    let mut http = spawn(http);
    running.readiness.open();
    tracing::info!(address = %config.gateway.listen, "gateway listens");
    tokio::select! {
        signal = stop.requested() => tracing::info!(signal = signal?, "draining"),
        _ = &mut http => return Err(Error::part("http", "ended by itself")),
    }
    stop.drain(running.drain()).await;
    tracing::info!("stopped");
    Ok(())
}

/// The HTTP server: the gateway's middleware around the proxy.
fn http_server(
    listener: TcpListener,
    config: &::gateway::Config,
    gateway: Gateway,
    proxy: Proxy,
) -> Result<Server, Error> {
    let settings = Settings {
        head: Duration::from_secs(config.head_timeout.into()),
        trusted_proxies: Some(config.trusted_proxy.clone()),
        keep_alive: Duration::from_secs(config.keep_alive.into()),
        half_closed: true,
        drain: HTTP_DRAIN,
        // One for the client and one for the connection to the node.
        descriptors: 2,
        on_connect: |io, extensions| {
            socketio::on_connect(io, extensions);
            ::gateway::on_connect(io, extensions);
        },
    };
    let server = http::serve(listener, settings, move || {
        let proxy = proxy.worker();
        App::new()
            .configure(|service| gateway.routes(service))
            .service(proxy.login().wrap(gateway.login_limit()))
            .service(proxy.registration().wrap(gateway.registration_limit()))
            .configure(|service| proxy.routes(service))
            .default_service(web::to(::gateway::not_found))
            .wrap(gateway.middleware())
    });
    server.map_err(|error| Error::part("http", error))
}

/// Ready while sessions can be verified and a chat node is available. The accounts service is not probed: without it,
/// users who are logged in can still chat, and other gateways would not do better.
fn probes(sessions: Arc<RedisSessions>, watcher: Arc<Watcher>, proxy: Proxy) -> Vec<(&'static str, Probe)> {
    let redis = move || {
        let (sessions, watcher) = (sessions.clone(), watcher.clone());
        Box::pin(async move {
            let not_ready_reason = sessions.not_ready_reason().await;
            if not_ready_reason.is_some() { not_ready_reason } else { watcher.not_ready_reason().await }
        }) as _
    };
    let chat = move || {
        let not_ready_reason = proxy.chat_not_ready_reason();
        Box::pin(async move { not_ready_reason }) as _
    };
    vec![("Redis", Box::new(redis)), ("chat", Box::new(chat))]
}

/// Services that refuse the signature of this gateway, while others accept it.
fn add_degrading(readiness: &Readiness, proxy: Proxy) {
    let other = proxy.clone();
    let chat = move || {
        let degradation = proxy.chat_degradation();
        Box::pin(async move { degradation }) as _
    };
    let accounts = move || {
        let degradation = other.accounts_degradation();
        Box::pin(async move { degradation }) as _
    };
    readiness.add_degrading("chat", Box::new(chat));
    readiness.add_degrading("accounts", Box::new(accounts));
}

impl Running {
    /// Stops new connections, completes requests in progress, then closes the sockets.
    async fn drain(self) {
        self.readiness.drain();
        self.http.pause().await;
        self.proxy.drain().await;
        self.http.stop(true).await;
        self.admin.stop(false).await;
    }
}
