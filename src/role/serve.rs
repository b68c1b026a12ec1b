//! `godzilla serve`: all services in one process. The composition root: opens stores and sockets, which can fail, then
//! starts the parts from the inside out (stores, presence, chat, sockets, gateway), and ends them from the outside in.

mod banner;

use std::{net::TcpListener, sync::Arc, time::Duration};

use accounts::Accounts;
use actix_web::{
    App,
    dev::{Server as HttpServerTask, ServerHandle},
    rt::spawn,
    web,
};
use chat::{Chat, Deps, Order, client::Clients};
use gateway::Gateway;
use metrics_exporter_prometheus::PrometheusHandle;
use socketio::{CloseReason, Io, Server};

use crate::{
    admin::{self, Readiness},
    config::Serve,
    descriptors,
    error::Error,
    heartbeat,
    http::{self, Settings},
    listener::listen,
    role::{chat_probe, password_probe, presence_thread::PresenceThread, upkeep},
    shutdown::{self, Stop},
    stores::Stores,
    supervision::essential,
    telemetry,
    user_lookup::StoreUserLookup,
};

/// The listening sockets of this process, opened before any part starts.
struct Listeners {
    /// HTTP for clients.
    http: TcpListener,
    /// gRPC of presence, for the chat of this process and for other readers.
    presence: TcpListener,
    /// HTTP for operators.
    admin: TcpListener,
}

/// The parts to end, in the order of the fields.
struct Running {
    /// Not ready first.
    readiness: Arc<Readiness>,
    /// The HTTP server for clients.
    http: ServerHandle,
    /// Handles the clients' commands until each socket is closed.
    chat: Chat,
    /// Reaches all sockets.
    io: Io,
    /// Receives the disconnects of all users.
    presence: PresenceThread,
    /// Answers until the end.
    admin: ServerHandle,
}

/// How long requests in progress may continue during the drain, in seconds.
const HTTP_DRAIN: u64 = 3;

/// Number of steps in which the drain closes all sockets, so that clients do not reconnect at the same time.
const CLOSING_STEPS: u32 = 10;

/// Pause between two of those steps.
const CLOSING_PAUSE: Duration = Duration::from_millis(100);

/// Runs until a signal requests the end, then until every accepted command and request is answered.
pub fn run(config: Serve) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    let metrics = telemetry::metrics()?;
    descriptors::raise();
    shutdown::run(serve(config, metrics))
}

async fn serve(mut config: Serve, metrics: PrometheusHandle) -> Result<(), Error> {
    let mut stop = Stop::listen()?;
    let listeners = Listeners::open(&mut config)?;
    let stores = Stores::open(&config.store)?;
    let (running, http) = start(&config, listeners, &stores, metrics).await?;
    let mut http = spawn(http);
    running.readiness.open();
    tracing::info!(address = %config.gateway.listen, "http listens");
    banner::show(&config);
    tokio::select! {
        signal = stop.requested() => tracing::info!(signal = signal?, "draining"),
        ended = &mut http => return Err(unexpected(ended)),
    }
    stop.drain(running.drain()).await;
    // Some parts that were not awaited still hold handles.
    stores.close();
    tracing::info!("stopped");
    Ok(())
}

/// Starts every part. The caller spawns the second value, the HTTP server for clients.
async fn start(
    config: &Serve,
    listeners: Listeners,
    stores: &Stores,
    metrics: PrometheusHandle,
) -> Result<(Running, HttpServerTask), Error> {
    let readiness = Readiness::new(stores.probes());
    let (admin_server, admin) = admin::start(listeners.admin, readiness.clone(), metrics.clone())?;
    spawn(essential("admin server", admin_server));
    let mut chat_config = config.chat.clone();
    chat_config.presence_url = format!("http://{}", config.presence_listen);
    let presence = PresenceThread::start(listeners.presence, config.presence.clone());
    readiness.add("roster", presence.probe());
    let io = Io::new();
    let deps = Deps {
        history: stores.chat.history(),
        order: Order::Store(stores.chat.journal()),
        directory: stores.chat.directory(),
        recovery_sessions: stores.chat.recovery_sessions(),
        user_lookup: Arc::new(StoreUserLookup(stores.users.clone())),
        sessions: stores.sessions.clone(),
        io: io.clone(),
        config: chat_config,
    };
    let chat = chat::start(deps).await.map_err(|error| Error::part("chat", error))?;
    heartbeat::watch_chat(&chat);
    readiness.add("chat's parts", chat_probe(&chat));
    let accounts = Accounts::new(stores.users.clone(), stores.sessions.clone(), &config.accounts)
        .map_err(|error| Error::part("accounts", format!("{error:?}")))?;
    readiness.add("password pool", password_probe(&accounts));
    let sockets = Server::new(io.clone(), Clients::new(chat.clone()), config.sockets.to_config());
    let gateway = Gateway::new(config.gateway.clone(), stores.sessions.clone());
    let for_upkeep = gateway.clone();
    spawn(upkeep(metrics, move || for_upkeep.remove_idle_clients()));
    let server = http_server(listeners.http, config, gateway, accounts, chat.clone(), sockets)?;
    Ok((Running { readiness, http: server.handle(), chat, io, presence, admin }, server))
}

/// The HTTP server for clients: the gateway's middleware around all services.
fn http_server(
    listener: TcpListener,
    config: &Serve,
    gateway: Gateway,
    accounts: Accounts,
    chat: Chat,
    sockets: Server<Clients>,
) -> Result<HttpServerTask, Error> {
    let settings = Settings {
        head: Duration::from_secs(config.gateway.head_timeout.into()),
        trusted_proxies: Some(config.gateway.trusted_proxy.clone()),
        keep_alive: Duration::from_secs(config.gateway.keep_alive.into()),
        half_closed: true,
        drain: HTTP_DRAIN,
        descriptors: 1,
        on_connect: socketio::on_connect,
    };
    let server = http::serve(listener, settings, move || {
        App::new()
            .configure(|service| gateway.routes(service))
            .configure(|service| accounts.routes(service))
            .service(accounts.login().wrap(gateway.login_limit()))
            .service(accounts.registration().wrap(gateway.registration_limit()))
            .configure(|service| chat.routes(service))
            .configure(|service| sockets.mount(service))
            .default_service(web::to(gateway::not_found))
            .wrap(gateway.middleware())
    });
    server.map_err(|error| Error::part("http", error))
}

fn unexpected(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Err(error)) => Error::part("http", error),
        Ok(Ok(())) => Error::part("http", "ended by itself"),
        Err(error) => Error::part("http", error),
    }
}

impl Listeners {
    /// Opens the sockets. Replaces port 0 in `config` by the port that the system chose.
    fn open(config: &mut Serve) -> Result<Self, Error> {
        Ok(Self {
            http: listen("--listen", &mut config.gateway.listen)?,
            presence: listen("--presence-listen", &mut config.presence_listen)?,
            admin: listen("--admin-listen", &mut config.admin.admin_listen)?,
        })
    }
}

impl Running {
    /// Refuses new sockets. Closes the open ones, each after the acknowledgements of its commands. Then completes the
    /// requests in progress, accepted work that no client waits for, and the other parts from the outside in.
    async fn drain(self) {
        self.readiness.drain();
        self.http.pause().await;
        self.chat.stop_connects();
        self.io.close_all(CloseReason::ShuttingDown, CLOSING_STEPS, CLOSING_PAUSE).await;
        self.http.stop(true).await;
        self.chat.drain().await;
        self.presence.drain().await;
        self.admin.stop(false).await;
    }
}
