//! `godzilla serve`: everything in one process. The composition root: opens what can fail first, starts the parts from the
//! inside out (stores, presence, chat, sockets, door), and ends them from the outside in.

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
    registered::Registered,
    role::{chat_probe, password_probe, presence_thread::PresenceThread, upkeep},
    shutdown::{self, Stop},
    stores::Stores,
    supervision::essential,
    telemetry,
};

/// The sockets this process listens on, taken before anything runs.
struct Listeners {
    /// The front door.
    http: TcpListener,
    /// gRPC, for the chat beside it and for who wants to watch.
    presence: TcpListener,
    /// The operator's.
    admin: TcpListener,
}

/// What has to be ended, in the order of its fields.
struct Running {
    /// Told first: no more work, please.
    readiness: Arc<Readiness>,
    /// The front door.
    http: ServerHandle,
    /// Takes what the sockets send until each of them is closed.
    chat: Chat,
    /// The way to all sockets.
    io: Io,
    /// Hears of users who leave until they all have.
    presence: PresenceThread,
    /// Answers until the end.
    admin: ServerHandle,
}

/// How long requests may go on when the process ends, in seconds.
const REST: u64 = 3;

/// When the process ends its sockets are closed in this many steps, so that clients do not all come back at once.
const CLOSING_STEPS: u32 = 10;

/// Between two of those steps.
const CLOSING_PAUSE: Duration = Duration::from_millis(100);

/// Runs until a signal asks to stop, and then until everything accepted has its answer.
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
        signal = stop.asked() => tracing::info!(signal = signal?, "draining"),
        ended = &mut http => return Err(unexpected(ended)),
    }
    stop.drain(running.drain()).await;
    // Parts that are not awaited above still have handles.
    stores.close();
    tracing::info!("stopped");
    Ok(())
}

/// Starts every part. What it returns last is to be spawned: the server of the front door.
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
        user_lookup: Arc::new(Registered(stores.users.clone())),
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
    let door = gateway.clone();
    spawn(upkeep(metrics, move || door.forget_idle_clients()));
    let server = front(listeners.http, config, gateway, accounts, chat.clone(), sockets)?;
    Ok((Running { readiness, http: server.handle(), chat, io, presence, admin }, server))
}

/// The front door: the gateway around everything that answers HTTP.
fn front(
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
        drain: REST,
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
            .wrap(gateway.door())
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
    /// Takes the sockets; where the system chose the port, `config` knows it afterwards.
    fn open(config: &mut Serve) -> Result<Self, Error> {
        Ok(Self {
            http: listen("--listen", &mut config.gateway.listen)?,
            presence: listen("--presence-listen", &mut config.presence_listen)?,
            admin: listen("--admin-listen", &mut config.admin.admin_listen)?,
        })
    }
}

impl Running {
    /// No new sockets, then goodbye to those that are open, each with the answers to all that it has sent, then the requests under
    /// way, then what was accepted and waits for nobody's answer, then the other parts from the outside in.
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
