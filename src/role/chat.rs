//! `godzilla chat`: one of any number of chat nodes with clients' sockets, on MongoDB and Redis, behind gateways. It
//! waits for its stores before it starts other parts, which need them, and opens itself to gateways last.

mod probes;

use std::{
    net::TcpListener,
    rc::Rc,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::accounts::MongoUsers;
use ::chat::{
    Chat, Deps, MongoStore, Order, Redis, broker::Stream, client::Clients,
    recovery_sessions::redis::RedisRecoverySessions,
};
use actix_web::{
    App,
    dev::{Server as HttpServerTask, ServerHandle},
    middleware::from_fn,
    rt::{spawn, time::sleep},
    web,
};
use metrics_exporter_prometheus::PrometheusHandle;
use proto::signature::Key;
use remote::Location;
use sessions::{RedisSessions, ages};
use socketio::{CloseReason, Io, Server};

use crate::{
    admin::{self, Readiness},
    config, descriptors,
    error::Error,
    heartbeat,
    http::{self, Settings},
    listener::listen,
    mongo,
    nodes::NodeLease,
    role::{chat_probe, new_session_gate::NewSessionGate, upkeep, verify_identity},
    shutdown::{self, Stop},
    supervision::essential,
    telemetry,
    user_lookup::StoreUserLookup,
};

/// Deadline of a request head.
const HEAD: Duration = Duration::from_secs(5);

/// Initial and maximum delay between two attempts to open the stores. It doubles.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long requests in progress may continue during the drain, in seconds.
const HTTP_DRAIN: u64 = 3;

/// How long gateways may take to detect that the node is closed. They read the table every second.
const GATEWAY_REFRESH: Duration = Duration::from_millis(1_300);

/// How long a polling client may take to fetch its last packet, the close.
const FINAL_POLL: Duration = Duration::from_millis(500);

/// Number of steps in which the drain closes all sockets. Other nodes accept the reconnecting clients step by step.
const CLOSING_STEPS: u32 = 50;

/// Pause between two of those steps.
const CLOSING_PAUSE: Duration = Duration::from_millis(100);

/// The stores, which may be unavailable.
struct Stores {
    chat: MongoStore,
    users: Arc<MongoUsers>,
    sessions: Arc<RedisSessions>,
    redis: Redis,
}

/// Why gateways cannot find this node. Set when the lease has started.
type NodeStatus = Arc<OnceLock<Box<dyn Fn() -> Option<String> + Send + Sync>>>;

/// The parts to end, in the order of the fields.
struct Running {
    /// Not ready first.
    readiness: Arc<Readiness>,
    /// Gateways then send no new sessions.
    lease: NodeLease,
    /// New sessions are refused.
    new_session_gate: NewSessionGate,
    /// The HTTP server of the node.
    http: ServerHandle,
    /// Handles the clients' commands until each socket is closed.
    chat: Chat,
    /// Reaches all sockets.
    io: Io,
    /// Answers until the end.
    admin: ServerHandle,
}

/// Runs until a signal requests the end, then until every accepted command has its acknowledgement and all sockets are
/// closed.
pub fn run(config: config::Chat) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    let metrics = telemetry::metrics()?;
    descriptors::raise();
    shutdown::run(serve(config, metrics))
}

async fn serve(mut config: config::Chat, metrics: PrometheusHandle) -> Result<(), Error> {
    let mut stop = Stop::listen()?;
    let key = config.secret.key().map_err(Error::Config)?;
    let stores = Stores::new(&config).await?;
    let redis = location(&config)?;
    let node = config.chat.node_name();
    config.chat.deployment = config.deployment.deployment.name().to_owned();
    NodeLease::check_name(&node).map_err(Error::Config)?;
    let listener = listen("--listen", &mut config.listen)?;
    let address = config.address().map_err(Error::Config)?;
    let operators = listen("--admin-listen", &mut config.admin.admin_listen)?;
    let node_status = NodeStatus::default();
    let readiness = Readiness::new(stores.probes(node_status.clone()));
    let (server, admin) = admin::start(operators, readiness.clone(), metrics.clone())?;
    spawn(essential("admin server", server));
    spawn(upkeep(metrics, || ()));
    let lease = NodeLease::start(redis, &node, address, NodeLease::TTL);
    let lease = lease.map_err(Error::Config)?;
    _ = node_status.set(Box::new(lease.not_ready_reason()));
    let Some(order) = stores.prepared(&lease, &node, &mut stop).await? else {
        lease.release().await;
        return Ok(());
    };
    let io = Io::new();
    let deps = Deps {
        history: stores.chat.history(),
        order,
        directory: stores.chat.directory(),
        recovery_sessions: Arc::new(RedisRecoverySessions::new(stores.redis.clone())),
        user_lookup: Arc::new(StoreUserLookup(stores.users.clone())),
        sessions: stores.sessions.clone(),
        io: io.clone(),
        config: config.chat.clone(),
    };
    let chat = ::chat::start(deps).await.map_err(|error| Error::part("chat", error))?;
    heartbeat::watch_chat(&chat);
    readiness.add("chat's parts", chat_probe(&chat));
    stores.add_degrading(&readiness, &chat);
    let (sockets, new_session_gate) = sockets(&config.sockets, &node, &io, &chat);
    let http = http_server(listener, chat.clone(), sockets, (key, new_session_gate.clone()))?;
    let handle = http.handle();
    let mut http = spawn(http);
    lease.open().await;
    let lost = lease.lost();
    let running = Running { readiness, lease, new_session_gate, http: handle, chat, io, admin };
    running.readiness.open();
    tracing::info!(address = %config.listen, node, "chat listens");
    let outcome = tokio::select! {
        signal = stop.requested() => {
            tracing::info!(signal = signal?, "draining");
            Ok(())
        }
        _ = &mut http => return Err(Error::part("http", "ended by itself")),
        () = lost => Err(Error::part("chat", "another node has acquired the name because the lease of this node expired")),
    };
    stop.drain(running.drain()).await;
    tracing::info!("stopped");
    outcome
}

/// Address of Redis, and the prefix of the keys.
fn location(config: &config::Chat) -> Result<Location, Error> {
    let url = config.redis.url().map_err(Error::Config)?;
    Ok(Location::new(url.reveal(), &config.deployment.deployment))
}

/// The Socket.IO server of this node, and the gate for new sessions.
fn sockets(config: &config::Sockets, node: &str, io: &Io, chat: &Chat) -> (Server<Clients>, NewSessionGate) {
    let mut config = config.to_config();
    // Gateways read the name of the node from the session id.
    config.sid_suffix = format!(".{node}");
    let new_session_gate = NewSessionGate::at(&config.path);
    (Server::new(io.clone(), Clients::new(chat.clone()), config), new_session_gate)
}

fn http_server(
    listener: TcpListener,
    chat: Chat,
    sockets: Server<Clients>,
    (key, new_session_gate): (Key, NewSessionGate),
) -> Result<HttpServerTask, Error> {
    let settings = Settings::internal(HEAD, HTTP_DRAIN, socketio::on_connect);
    let server = http::serve(listener, settings, move || {
        let (key, new_session_gate) = (Rc::new(key.clone()), new_session_gate.clone());
        App::new()
            .configure(|service| chat.routes(service))
            .configure(|service| sockets.mount(service))
            .default_service(web::to(gateway::not_found))
            .wrap(from_fn(move |request, next| new_session_gate.clone().check(request, next)))
            .wrap(from_fn(move |request, next| verify_identity::verify_identity(key.clone(), request, next)))
    });
    server.map_err(|error| Error::part("http", error))
}

impl Stores {
    async fn new(config: &config::Chat) -> Result<Self, Error> {
        let uri = config.mongo.uri().map_err(Error::Config)?;
        let redis = location(config)?;
        let refused = |error: &dyn std::fmt::Display| {
            Error::Config(format!("the value of --redis-url (GODZILLA_REDIS_URL) is refused: {error}"))
        };
        let store = mongo::store(uri.reveal(), &config.deployment.deployment).await?;
        let sessions = RedisSessions::new(redis.clone(), ages::now).map_err(|error| refused(&error))?;
        Ok(Self {
            chat: MongoStore::new(&store),
            users: Arc::new(MongoUsers::new(&store)),
            sessions: Arc::new(sessions),
            redis: Redis::new(redis).map_err(|error| refused(&error.public()))?,
        })
    }

    /// Waits until the node holds its lease and its stores are available. No work is done under a name that another
    /// node holds. `None` when a signal requests the end before.
    async fn prepared(&self, lease: &NodeLease, node: &str, stop: &mut Stop) -> Result<Option<Order>, Error> {
        let wait = async {
            lease.acquired().await;
            self.wait(node).await
        };
        tokio::select! {
            order = wait => Ok(Some(order)),
            signal = stop.requested() => {
                tracing::info!(signal = signal?, "stopped while waiting for the lease or the stores");
                Ok(None)
            }
        }
    }

    /// Waits until the stores are available, and opens the event stream.
    async fn wait(&self, node: &str) -> Order {
        let (mut pause, mut was_logged) = (RETRY_DELAYS.0, false);
        loop {
            let opened = async {
                self.chat.prepare().await?;
                let (redis, node, chat) = (self.redis.clone(), node.to_owned(), &self.chat);
                let (unpublished, changes, lineage) = (chat.unpublished(), chat.changes(), chat.lineage());
                Stream::open(redis, node, chat.history(), unpublished, changes, lineage).await
            };
            match opened.await {
                Ok(opened) => return Order::Stream(opened),
                Err(error) if was_logged => tracing::debug!(%error, "still waiting for the stores"),
                Err(error) => tracing::warn!(%error, "waiting for the stores"),
            }
            was_logged = true;
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_DELAYS.1);
        }
    }
}

impl Running {
    /// Refuses new sockets. Closes the open ones, each after the acknowledgements of its commands. Then completes the
    /// requests in progress, and accepted work that no client waits for.
    async fn drain(self) {
        self.readiness.drain();
        self.new_session_gate.refuse();
        self.lease.close().await;
        sleep(GATEWAY_REFRESH).await;
        self.chat.stop_connects();
        self.io.close_all(CloseReason::ShuttingDown, CLOSING_STEPS, CLOSING_PAUSE).await;
        sleep(FINAL_POLL).await;
        self.lease.release().await;
        self.http.stop(true).await;
        self.chat.drain().await;
        self.admin.stop(false).await;
    }
}
