//! `godzilla accounts`: register, login, logout and me, on MongoDB and Redis, behind the gateway.

mod flags;

use std::{
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_web::{App, dev::ServerHandle, middleware::from_fn, web};
use async_trait::async_trait;
use futures_util::future::pending;
use proto::signature::Key;
use remote::Redis;
use sessions::RedisSessions;

pub use self::flags::{Config, ROLE};
use crate::{
    admin::Probe,
    error::Error,
    http::Settings,
    listener::listen,
    role::{
        definition::Context,
        harness::{Process, Role, Running, Step},
        verify_identity,
    },
    storage::{self, SharedStores},
};

/// Deadline of a request head.
const HEAD: Duration = Duration::from_secs(5);

/// How long requests in progress may continue during the drain, in seconds. Password hashing takes some.
const HTTP_DRAIN: u64 = 10;

/// How long requests are accepted after SIGTERM. Gateways reach accounts through the name of a service, whose endpoints change after this time.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// The role before its start.
struct Accounts {
    listener: TcpListener,
    /// Where the service listens.
    address: SocketAddr,
    key: Key,
    stores: SharedStores,
    redis: Redis,
    sessions: Arc<RedisSessions>,
    service: ::accounts::Config,
}

/// The HTTP server of the service.
struct HttpServer {
    http: ServerHandle,
    stores: SharedStores,
    redis: Redis,
}

impl Accounts {
    /// The stores may be unavailable: `/readyz` names the missing one.
    async fn open(mut config: Config, context: Context) -> Result<Self, Error> {
        let key = config.secret.key().map_err(Error::Config)?;
        let uri = config.mongo.uri().map_err(Error::Config)?;
        let redis = storage::redis::location(&config.redis, &config.deployment)?;
        let stores = storage::open_shared(&uri, &config.deployment.deployment).await?;
        let sessions = storage::redis::sessions(redis.clone())?;
        Ok(Self {
            listener: listen(context.listen_flag, &mut config.listen)?,
            address: config.listen,
            key,
            stores,
            redis: storage::redis::client(redis)?,
            sessions: Arc::new(sessions),
            service: config.accounts,
        })
    }

    fn probes(&self) -> [(&'static str, Probe); 2] {
        let (backend, sessions) = (self.stores.backend.clone(), self.sessions.clone());
        let store = move || {
            let backend = backend.clone();
            Box::pin(async move { backend.problem().await }) as _
        };
        let writes = self.redis.clone();
        let redis = move || {
            let (sessions, writes) = (sessions.clone(), writes.clone());
            Box::pin(async move {
                match sessions.not_ready_reason().await {
                    None => writes.check().await.err().map(|error| error.to_string()),
                    reason => reason,
                }
            }) as _
        };
        [(self.stores.backend.name(), Box::new(store)), ("Redis", Box::new(redis))]
    }
}

#[async_trait(?Send)]
impl Role for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn drain_delay(&self) -> Duration {
        DRAIN_DELAY
    }

    async fn start(self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error> {
        let (probes, stores, redis) = (self.probes(), self.stores, self.redis);
        let (users, sessions) = (stores.users.clone(), self.sessions);
        let accounts = ::accounts::Accounts::new(users, sessions, &self.service)
            .map_err(|error| Error::part("accounts", format!("{error:?}")))?;
        probes.into_iter().for_each(|(part, probe)| process.add_probe(part, probe));
        let (settings, key) = (Settings::internal(HEAD, HTTP_DRAIN), self.key);
        let http = process.serve(self.listener, settings, move || {
            let key = Rc::new(key.clone());
            App::new()
                .configure(|service| accounts.routes(service))
                .service(accounts.login())
                .service(accounts.registration())
                .default_service(web::to(gateway::not_found))
                .wrap(from_fn(move |request, next| {
                    verify_identity::verify_identity(key.clone(), request, next)
                }))
        })?;
        tracing::info!(address = %self.address, "accounts listens");
        Ok(Box::new(HttpServer { http, stores, redis }))
    }
}

#[async_trait(?Send)]
impl Running for HttpServer {
    /// A gateway of this process forwards its last requests before the last step.
    async fn drain(&mut self, step: Step) {
        if step == Step::End {
            self.http.stop(true).await;
        }
    }

    /// Resolves when Redis belongs to the roles of another database.
    async fn lost(&self) -> Error {
        match storage::compare(&self.stores, &self.redis).await {
            Ok(()) => pending().await,
            Err(error) => error,
        }
    }
}
