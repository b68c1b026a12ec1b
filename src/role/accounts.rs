//! `godzilla accounts`: register, login, logout and me, on MongoDB and Redis, behind the gateway.

use std::{
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ::accounts::{LoginThrottle, MongoUsers};
use actix_web::{
    App,
    dev::ServerHandle,
    middleware::from_fn,
    rt::{spawn, time::sleep},
    web,
};
use async_trait::async_trait;
use chat::MongoStore;
use proto::{RoleReport, role_report::ACCOUNTS, signature::Key};
use remote::{Location, NotAnAddress, Redis};
use sessions::{MongoRevocations, RedisSessions};

use crate::{
    admin::{Opening, Probe},
    config,
    error::Error,
    http::Settings,
    listener::listen,
    mongo::{self, Hosts},
    role::{
        harness::{self, Process, Role, Running, Shared, Step},
        password_probe,
        role_reporter::RoleReporter,
        verify_identity,
    },
    room_references::RoomReferences,
    supervision::restart,
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

/// How long requests are accepted after SIGTERM. Gateways reach accounts through the name of a service, whose endpoints change after this time.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// The role before its start.
pub struct Accounts {
    listener: TcpListener,
    /// Where the service listens.
    pub address: SocketAddr,
    key: Key,
    users: Arc<MongoUsers>,
    /// The servers of MongoDB.
    hosts: Hosts,
    references: Arc<RoomReferences>,
    sessions: Arc<RedisSessions>,
    throttle: LoginThrottle,
    service: ::accounts::Config,
}

/// The HTTP server of the service.
struct HttpServer(ServerHandle);

/// Runs the role alone until a signal requests the end, then until requests in progress have their responses.
pub fn run(config: config::Accounts) -> Result<(), Error> {
    let shared = Shared { admin: config.admin.clone(), telemetry: config.telemetry.clone(), named: false };
    harness::run(shared, async |opening| {
        Ok(vec![Box::new(Accounts::open(config, "--listen", &opening).await?) as _])
    })
}

impl Accounts {
    /// Reads the secrets and listens on the address that `flag` sets. MongoDB and Redis may be unavailable: `/readyz` names
    /// the missing store.
    pub async fn open(
        mut config: config::Accounts,
        flag: &'static str,
        opening: &Opening,
    ) -> Result<Self, Error> {
        let uri = config.mongo.uri().map_err(Error::Config)?;
        let url = config.redis.url().map_err(Error::Config)?;
        let key = config.secret.key().map_err(Error::Config)?;
        let deployment = &config.deployment.deployment;
        let store = mongo::store(&uri, deployment, opening).await?;
        let redis = Location::new(url.reveal(), deployment);
        let refused = |error: NotAnAddress| Error::Config(url.refused(&error));
        let revocations = Arc::new(MongoRevocations::new(&store));
        let sessions = RedisSessions::with_revocations(redis.clone(), sessions::ages::now, revocations);
        let throttle = LoginThrottle::new(Redis::new(redis, CONNECTIONS).map_err(refused)?);
        Ok(Self {
            listener: listen(flag, &mut config.listen)?,
            address: config.listen,
            key,
            users: Arc::new(MongoUsers::new(&store)),
            hosts: Hosts::of(&uri),
            references: Arc::new(RoomReferences(MongoStore::new(&store).directory())),
            sessions: Arc::new(sessions.map_err(refused)?),
            throttle,
            service: config.accounts,
        })
    }

    fn probes(&self) -> [(&'static str, Probe); 2] {
        let (users, hosts, sessions) = (self.users.clone(), self.hosts.clone(), self.sessions.clone());
        let mongo = move || {
            let (users, hosts) = (users.clone(), hosts.clone());
            Box::pin(async move { hosts.explained(users.not_ready_reason().await).await }) as _
        };
        let redis = move || {
            let sessions = sessions.clone();
            Box::pin(async move { sessions.not_ready_reason().await }) as _
        };
        [("MongoDB", Box::new(mongo)), ("Redis", Box::new(redis))]
    }
}

#[async_trait(?Send)]
impl Role for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn descriptors(&self) -> u64 {
        1
    }

    fn drain_delay(&self) -> Duration {
        DRAIN_DELAY
    }

    async fn start(self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error> {
        let (probes, users) = (self.probes(), self.users.clone());
        let accounts =
            ::accounts::Accounts::new(self.users, self.references, self.sessions.clone(), &self.service)
                .map_err(|error| Error::part("accounts", format!("{error:?}")))?
                .with_throttle(self.throttle);
        let watched = self.sessions;
        spawn(restart("durability watch", move || warn_about_data_loss(watched.clone())));
        probes.into_iter().for_each(|(part, probe)| process.add_probe(part, probe));
        process.add_degrading("MongoDB", registration_probe(users));
        process.add_probe("password pool", password_probe(&accounts));
        let reporter = RoleReporter::start(RoleReport::new(ACCOUNTS, None), process.clone());
        let (settings, key) = (Settings::internal(HEAD, HTTP_DRAIN, |_, _| ()), self.key);
        let http = process.serve(self.listener, settings, move || {
            let key = Rc::new(key.clone());
            App::new()
                .configure(|service| accounts.routes(service))
                .service(accounts.login())
                .service(accounts.registration())
                .configure(|service| reporter.mount(service))
                .default_service(web::to(gateway::not_found))
                .wrap(from_fn(move |request, next| {
                    verify_identity::verify_identity(key.clone(), request, next)
                }))
        })?;
        tracing::info!(address = %self.address, "accounts listens");
        Ok(Box::new(HttpServer(http)))
    }
}

#[async_trait(?Send)]
impl Running for HttpServer {
    /// A gateway of this process forwards its last requests before the last step.
    async fn drain(&mut self, step: Step) {
        if step == Step::End {
            self.0.stop(true).await;
        }
    }
}

/// Probes whether users can be registered. Users who exist can log in without it.
fn registration_probe(users: Arc<MongoUsers>) -> Probe {
    Box::new(move || {
        let users = users.clone();
        Box::pin(async move { users.registration_problem().await })
    })
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
