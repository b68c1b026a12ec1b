//! `godzilla accounts`: register, login, logout and me in a separate process, on MongoDB and Redis, behind the gateway.

use std::{net::TcpListener, rc::Rc, sync::Arc, time::Duration};

use ::accounts::{Accounts, LoginThrottle, MongoUsers};
use actix_web::{
    App,
    dev::Server,
    middleware::from_fn,
    rt::{spawn, time::sleep},
    web,
};
use metrics_exporter_prometheus::PrometheusHandle;
use proto::signature::Key;
use remote::{Location, NotAnAddress, Redis};
use sessions::{MongoRevocations, RedisSessions};

use crate::{
    admin::{self, Probe, Readiness},
    config, descriptors,
    error::Error,
    http::{self, Settings},
    listener::listen,
    mongo,
    role::{password_probe, upkeep, verify_identity},
    shutdown::{self, Stop},
    supervision::{essential, restart},
    telemetry,
};

/// Deadline of a request head.
const HEAD: Duration = Duration::from_secs(5);

/// How long requests in progress may continue during the drain, in seconds. Password hashing takes some.
const HTTP_DRAIN: u64 = 10;

/// Maximum number of connections to the Redis that counts failed logins.
const CONNECTIONS: usize = 8;

/// Interval of the checks of Redis's settings.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Interval of the checks while Redis does not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Runs until a signal requests the end, then until requests in progress have their responses. MongoDB and Redis may be
/// unavailable: `/readyz` names the missing store.
pub fn run(config: config::Accounts) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    let metrics = telemetry::metrics()?;
    descriptors::raise();
    shutdown::run(serve(config, metrics))
}

async fn serve(mut config: config::Accounts, metrics: PrometheusHandle) -> Result<(), Error> {
    let mut stop = Stop::listen()?;
    let uri = config.mongo.uri().map_err(Error::Config)?;
    let url = config.redis.url().map_err(Error::Config)?;
    let url = url.reveal();
    let key = config.secret.key().map_err(Error::Config)?;
    let deployment = &config.deployment.deployment;
    let store = mongo::store(uri.reveal(), deployment).await?;
    let redis = Location::new(url, deployment);
    let users = Arc::new(MongoUsers::new(&store));
    let refused = |error: NotAnAddress| {
        Error::Config(format!("the value of --redis-url (GODZILLA_REDIS_URL) is refused: {error}"))
    };
    let revocations = Arc::new(MongoRevocations::new(&store));
    let sessions = Arc::new(
        RedisSessions::with_revocations(redis.clone(), sessions::ages::now, revocations).map_err(refused)?,
    );
    let listener = listen("--listen", &mut config.listen)?;
    let operators = listen("--admin-listen", &mut config.admin.admin_listen)?;
    let accounts = Accounts::new(users.clone(), sessions.clone(), &config.accounts)
        .map_err(|error| Error::part("accounts", format!("{error:?}")))?
        .with_throttle(LoginThrottle::new(Redis::new(redis, CONNECTIONS).map_err(refused)?));
    let watched = sessions.clone();
    spawn(restart("durability watch", move || warn_about_data_loss(watched.clone())));
    let readiness = Readiness::new(probes(users, sessions));
    readiness.add("password pool", password_probe(&accounts));
    let (server, admin) = admin::start(operators, readiness.clone(), metrics.clone())?;
    spawn(essential("admin server", server));
    spawn(upkeep(metrics, || ()));
    let http = http_server(listener, accounts, key)?;
    let (handle, mut http) = (http.handle(), spawn(http));
    readiness.open();
    tracing::info!(address = %config.listen, "accounts listens");
    tokio::select! {
        signal = stop.requested() => tracing::info!(signal = signal?, "draining"),
        _ = &mut http => return Err(Error::part("http", "ended by itself")),
    }
    let drained = async {
        readiness.drain();
        handle.stop(true).await;
        admin.stop(false).await;
    };
    stop.drain(drained).await;
    tracing::info!("stopped");
    Ok(())
}

fn http_server(listener: TcpListener, accounts: Accounts, key: Key) -> Result<Server, Error> {
    let settings = Settings::internal(HEAD, HTTP_DRAIN, |_, _| ());
    let server = http::serve(listener, settings, move || {
        let key = Rc::new(key.clone());
        App::new()
            .configure(|service| accounts.routes(service))
            .service(accounts.login())
            .service(accounts.registration())
            .default_service(web::to(gateway::not_found))
            .wrap(from_fn(move |request, next| verify_identity::verify_identity(key.clone(), request, next)))
    });
    server.map_err(|error| Error::part("http", error))
}

/// Warns when the settings of Redis can lose sessions. The check is repeated, because settings can change at run time.
async fn warn_about_data_loss(sessions: Arc<RedisSessions>) {
    let (mut is_durable, mut evicts) = (true, false);
    loop {
        let pause = match (sessions.is_durable().await, sessions.evicts().await) {
            (Ok(durable), Ok(evicting)) => {
                if is_durable && !durable {
                    tracing::warn!(
                        "without appendonly yes and appendfsync always a crash of Redis can log users out"
                    );
                }
                if evicting && !evicts {
                    tracing::warn!(
                        "users can be logged out when the memory of Redis is full: set maxmemory-policy noeviction"
                    );
                }
                (is_durable, evicts) = (durable, evicting);
                CHECK_INTERVAL
            }
            _ => RETRY_INTERVAL,
        };
        sleep(pause).await;
    }
}

fn probes(users: Arc<MongoUsers>, sessions: Arc<RedisSessions>) -> Vec<(&'static str, Probe)> {
    let mongo = move || {
        let users = users.clone();
        Box::pin(async move { users.not_ready_reason().await }) as _
    };
    let redis = move || {
        let sessions = sessions.clone();
        Box::pin(async move { sessions.not_ready_reason().await }) as _
    };
    vec![("MongoDB", Box::new(mongo)), ("Redis", Box::new(redis))]
}
