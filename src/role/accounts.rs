//! `godzilla accounts`: register, login, logout and me, on MongoDB and Redis, behind the gateway.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use actix_web::{App, dev::ServerHandle, middleware::from_fn, web};
use async_trait::async_trait;
use clap::Args;
use futures_util::future::pending;
use remote::Redis;

use crate::{
    config::shared,
    error::Error,
    http::Settings,
    role::{
        definition::{Definition, Requirements, RoleConfig},
        harness::{Process, Running, Step},
        verify_identity,
    },
    storage::{self, SharedStores},
};

/// The row of the table of roles.
pub const ROLE: Definition = Definition::new::<Config>(
    "accounts",
    "Run the accounts service alone: register, login, logout and me, on MongoDB and Redis, behind a gateway",
    EXAMPLES,
);

const EXAMPLES: &str = "\
Examples:
  head -c 32 /dev/urandom | base64 > key && chmod 600 key
  godzilla accounts --secret-file key --redis-url redis://127.0.0.1:6379/0 \\
    --mongo-uri 'mongodb://127.0.0.1/godzilla?replicaSet=rs0'
It starts without MongoDB and Redis; /readyz on the admin address names the stores that it waits for.";

/// Deadline of a request head.
const HEAD: Duration = Duration::from_secs(5);

/// How long requests in progress may continue during the drain, in seconds. Password hashing takes some.
const HTTP_DRAIN: u64 = 10;

/// How long requests are accepted after SIGTERM. Gateways reach accounts through the name of a service, whose endpoints change after this time.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// The flags.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Config {
    /// Where the service listens (plain HTTP, for the gateway: a private network only)
    #[arg(long, env = "GODZILLA_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8081",
          value_parser = proto::address::listen)]
    #[arg(help_heading = "Accounts")]
    pub listen: SocketAddr,
    // Users.
    #[command(flatten)]
    pub mongo: shared::Mongo,
    // Sessions, and the key of signed identities.
    #[command(flatten)]
    pub cluster: shared::Cluster,
    // Passwords and logins.
    #[command(flatten, next_help_heading = "Accounts")]
    pub accounts: ::accounts::Config,
}

/// The HTTP server of the service.
struct HttpServer {
    http: ServerHandle,
    stores: SharedStores,
    redis: Redis,
}

#[async_trait(?Send)]
impl RoleConfig for Config {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn set_listen(&mut self, address: SocketAddr) {
        self.listen = address;
    }

    fn requirements(&self) -> Requirements<'_> {
        Requirements { cluster: Some(&self.cluster), mongo: Some(&self.mongo) }
    }

    fn drain_delay(&self) -> Duration {
        DRAIN_DELAY
    }

    /// The stores may be unavailable: `/readyz` names the missing one.
    async fn start(mut self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error> {
        let (key, location) = (self.cluster.key()?, self.cluster.location()?);
        let stores = self.mongo.open(&self.cluster).await?;
        let sessions = Arc::new(storage::redis::sessions(location.clone())?);
        let redis = storage::redis::client(location)?;
        let listener = process.listen(&mut self.listen)?;
        let accounts = ::accounts::Accounts::new(stores.users.clone(), sessions.clone(), &self.accounts)
            .map_err(|error| Error::part("accounts", format!("{error:?}")))?;
        process.add_store(&stores);
        let writes = redis.clone();
        process.add_probe("Redis", move || {
            let (sessions, writes) = (sessions.clone(), writes.clone());
            async move {
                match sessions.not_ready_reason().await {
                    None => writes.check().await.err().map(|error| error.to_string()),
                    reason => reason,
                }
            }
        });
        let http = process.serve(listener, Settings::internal(HEAD, HTTP_DRAIN), move || {
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
        tracing::info!(address = %self.listen, "accounts listens");
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
