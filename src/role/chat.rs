//! `godzilla chat`: one of any number of nodes that people's sockets are on, on MongoDB and Redis, behind gateways. It waits for
//! its stores before it does anything, because without them there is nothing it could do, and tells gateways of itself last.

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
    nodes::Announcement,
    registered::Registered,
    role::{caller, chat_probe, newcomers::Newcomers, upkeep},
    shutdown::{self, Stop},
    supervision::essential,
    telemetry,
};

/// How long a request head may take.
const HEAD: Duration = Duration::from_secs(5);

/// Between two attempts to reach the stores, at first and at most; it doubles.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long requests may go on when the process ends, in seconds.
const REST: u64 = 3;

/// How long gateways may take to notice that the node wants nothing new: they ask each second.
const NOTICE: Duration = Duration::from_millis(1_300);

/// How long whoever polls may take to fetch the last packet, the close.
const GOODBYE: Duration = Duration::from_millis(500);

/// When the node ends its sockets are closed in this many steps: other nodes take them, a few at a time.
const CLOSING_STEPS: u32 = 50;

/// Between two of those steps.
const CLOSING_PAUSE: Duration = Duration::from_millis(100);

/// The stores, which need not be there yet.
struct Stores {
    chat: MongoStore,
    users: Arc<MongoUsers>,
    sessions: Arc<RedisSessions>,
    redis: Redis,
}

/// Why gateways cannot know this node, if so, once it has a name.
type Known = Arc<OnceLock<Box<dyn Fn() -> Option<String> + Send + Sync>>>;

/// What has to be ended, in the order of its fields.
struct Running {
    /// Told first: no more work, please.
    readiness: Arc<Readiness>,
    /// Gateways send nobody new.
    announcement: Announcement,
    /// Nobody new is let in.
    newcomers: Newcomers,
    /// The node's HTTP.
    http: ServerHandle,
    /// Takes what the sockets send until each of them is closed.
    chat: Chat,
    /// The way to all sockets.
    io: Io,
    /// Answers until the end.
    admin: ServerHandle,
}

/// Runs until a signal asks to stop, and then until everything accepted has its answer and the sockets have been sent away.
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
    Announcement::check(&node).map_err(Error::Config)?;
    let listener = listen("--listen", &mut config.listen)?;
    let address = config.address().map_err(Error::Config)?;
    let operators = listen("--admin-listen", &mut config.admin.admin_listen)?;
    let known = Known::default();
    let readiness = Readiness::new(stores.probes(known.clone()));
    let (server, admin) = admin::start(operators, readiness.clone(), metrics.clone())?;
    spawn(essential("admin server", server));
    spawn(upkeep(metrics, || ()));
    let announcement = Announcement::start(redis, &node, address, Announcement::LEASE);
    let announcement = announcement.map_err(Error::Config)?;
    _ = known.set(Box::new(announcement.not_ready_reason()));
    let Some(order) = stores.prepared(&announcement, &node, &mut stop).await? else {
        announcement.withdraw().await;
        return Ok(());
    };
    let io = Io::new();
    let deps = Deps {
        history: stores.chat.history(),
        order,
        directory: stores.chat.directory(),
        recovery_sessions: Arc::new(RedisRecoverySessions::new(stores.redis.clone())),
        user_lookup: Arc::new(Registered(stores.users.clone())),
        sessions: stores.sessions.clone(),
        io: io.clone(),
        config: config.chat.clone(),
    };
    let chat = ::chat::start(deps).await.map_err(|error| Error::part("chat", error))?;
    heartbeat::watch_chat(&chat);
    readiness.add("chat's parts", chat_probe(&chat));
    stores.add_degrading(&readiness, &chat);
    let (sockets, newcomers) = sockets(&config.sockets, &node, &io, &chat);
    let http = door(listener, chat.clone(), sockets, (key, newcomers.clone()))?;
    let handle = http.handle();
    let mut http = spawn(http);
    announcement.open().await;
    let lost = announcement.lost();
    let running = Running { readiness, announcement, newcomers, http: handle, chat, io, admin };
    running.readiness.open();
    tracing::info!(address = %config.listen, node, "chat listens");
    let outcome = tokio::select! {
        signal = stop.asked() => {
            tracing::info!(signal = signal?, "draining");
            Ok(())
        }
        _ = &mut http => return Err(Error::part("http", "ended by itself")),
        () = lost => Err(Error::part("chat", "another node has taken its name while this one was silent")),
    };
    stop.drain(running.drain()).await;
    tracing::info!("stopped");
    outcome
}

/// Where Redis is, and whose keys are used there.
fn location(config: &config::Chat) -> Result<Location, Error> {
    let url = config.redis.url().map_err(Error::Config)?;
    Ok(Location::new(url.reveal(), &config.deployment.deployment))
}

/// The Socket.IO server of this node, and who may come to it.
fn sockets(config: &config::Sockets, node: &str, io: &Io, chat: &Chat) -> (Server<Clients>, Newcomers) {
    let mut config = config.to_config();
    // Gateways read the node's name there.
    config.sid_suffix = format!(".{node}");
    let newcomers = Newcomers::at(&config.path);
    (Server::new(io.clone(), Clients::new(chat.clone()), config), newcomers)
}

fn door(
    listener: TcpListener,
    chat: Chat,
    sockets: Server<Clients>,
    (key, newcomers): (Key, Newcomers),
) -> Result<HttpServerTask, Error> {
    let settings = Settings::inner(HEAD, REST, socketio::on_connect);
    let server = http::serve(listener, settings, move || {
        let (key, newcomers) = (Rc::new(key.clone()), newcomers.clone());
        App::new()
            .configure(|service| chat.routes(service))
            .configure(|service| sockets.mount(service))
            .default_service(web::to(gateway::not_found))
            .wrap(from_fn(move |request, next| newcomers.clone().check(request, next)))
            .wrap(from_fn(move |request, next| caller::identify(key.clone(), request, next)))
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

    /// Waits until the node has its name and its stores: nothing is done under a name that is another node's. None when it is asked to
    /// stop before.
    async fn prepared(
        &self,
        announcement: &Announcement,
        node: &str,
        stop: &mut Stop,
    ) -> Result<Option<Order>, Error> {
        let wait = async {
            announcement.held().await;
            self.wait(node).await
        };
        tokio::select! {
            order = wait => Ok(Some(order)),
            signal = stop.asked() => {
                tracing::info!(signal = signal?, "stopped before it had its name and its stores");
                Ok(None)
            }
        }
    }

    /// Waits until the stores are there, and opens the log.
    async fn wait(&self, node: &str) -> Order {
        let (mut pause, mut was_told) = (PAUSES.0, false);
        loop {
            let opened = async {
                self.chat.prepare().await?;
                let (redis, node, chat) = (self.redis.clone(), node.to_owned(), &self.chat);
                let (unpublished, changes, lineage) = (chat.unpublished(), chat.changes(), chat.lineage());
                Stream::open(redis, node, chat.history(), unpublished, changes, lineage).await
            };
            match opened.await {
                Ok(opened) => return Order::Stream(opened),
                Err(error) if was_told => tracing::debug!(%error, "still waiting for the stores"),
                Err(error) => tracing::warn!(%error, "waiting for the stores"),
            }
            was_told = true;
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

impl Running {
    /// No new sockets, then goodbye to those that are open, each with the answers to all that it has sent, then the requests under
    /// way, then what was accepted and waits for nobody's answer.
    async fn drain(self) {
        self.readiness.drain();
        self.newcomers.refuse();
        self.announcement.close().await;
        sleep(NOTICE).await;
        self.chat.stop_connects();
        self.io.close_all(CloseReason::ShuttingDown, CLOSING_STEPS, CLOSING_PAUSE).await;
        sleep(GOODBYE).await;
        self.announcement.withdraw().await;
        self.http.stop(true).await;
        self.chat.drain().await;
        self.admin.stop(false).await;
    }
}
