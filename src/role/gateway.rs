//! `godzilla gateway`: the gateway, in front of accounts and of any number of chat nodes, which it finds in Redis.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use ::gateway::{Proxy, Upstreams};
use actix_web::{App, dev::ServerHandle, web};
use async_trait::async_trait;
use clap::Args;
use cluster::{Backend, Watcher};
use proto::signature::Key;
use sessions::RedisSessions;

use crate::{
    admin::Probe,
    config::{shared, sockets},
    error::Error,
    http::Settings,
    limits,
    listener::listen,
    role::{
        definition::{Context, Definition, Requirements, RoleConfig},
        harness::{Process, Role, Running, Step},
    },
    storage,
};

/// The row of the table of roles.
pub const ROLE: Definition = Definition::new::<Config>(
    "gateway",
    "Run the gateway alone: the only role that clients reach, in front of accounts and any number of chat nodes",
    EXAMPLES,
);

const EXAMPLES: &str = "\
Examples:
  head -c 32 /dev/urandom | base64 > key && chmod 600 key
  godzilla gateway --secret-file key --redis-url redis://127.0.0.1:6379/0 --accounts-url http://127.0.0.1:8081
Chat nodes are found in Redis, where they announce themselves. It starts without any of them; /readyz on the admin address
names what it waits for.";

const ACCOUNTS_FLAG: &str = "--accounts-url (GODZILLA_ACCOUNTS_URL)";

/// How long the HTTP server may take to end the remaining connections after the proxy has drained, in seconds.
const HTTP_DRAIN: u64 = 2;

/// How long requests that began before the drain may take from its begin. A pending poll gets its ping as response within
/// this time.
const REQUEST_DRAIN: Duration = Duration::from_secs(11);

/// How long requests are accepted after SIGTERM. Load balancers in front of gateways need this time.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// The flags.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Config {
    // Gateway.
    #[command(flatten)]
    pub gateway: ::gateway::Config,
    /// The accounts service, such as http://accounts:8081
    #[arg(long, env = "GODZILLA_ACCOUNTS_URL", value_name = "URL", help_heading = "Services")]
    pub accounts_url: Option<Backend>,
    /// Largest body of a polling request, in bytes; what the chat nodes have
    #[arg(long, env = "GODZILLA_PAYLOAD_LIMIT", value_name = "BYTES", default_value_t = 65_536,
          value_parser = sockets::payload, help_heading = "Services")]
    pub payload_limit: usize,
    // Sessions, and the table of chat nodes.
    #[command(flatten)]
    pub redis: shared::Redis,
    // Prefix of the keys.
    #[command(flatten)]
    pub deployment: shared::Deployment,
    // Key of signed identities.
    #[command(flatten)]
    pub secret: shared::Secret,
    // Whether a chat node runs in the same process.
    #[arg(skip)]
    pub has_chat: bool,
}

/// The role before its start.
struct Gateway {
    listener: TcpListener,
    /// Where clients connect.
    address: SocketAddr,
    sessions: Arc<RedisSessions>,
    watcher: Watcher,
    key: Key,
    accounts: Backend,
    payload_limit: usize,
    service: ::gateway::Config,
    /// Whether a chat node runs in the same process.
    has_chat: bool,
}

/// The running parts.
struct Parts {
    http: ServerHandle,
    proxy: Proxy,
    has_chat: bool,
    /// When the drain has begun.
    drained_since: Option<Instant>,
}

impl Config {
    /// The address of the accounts service.
    pub fn accounts(&self) -> Result<Backend, String> {
        self.accounts_url
            .clone()
            .ok_or_else(|| shared::missing(ACCOUNTS_FLAG, "where the accounts service is"))
    }
}

#[async_trait(?Send)]
impl RoleConfig for Config {
    fn listen(&self) -> SocketAddr {
        self.gateway.listen
    }

    fn set_listen(&mut self, address: SocketAddr) {
        self.gateway.listen = address;
    }

    fn requirements(&self) -> Requirements<'_> {
        Requirements { secret: Some(&self.secret), redis: Some(&self.redis), mongo: None }
    }

    fn fit_memory(&mut self) {
        limits::fit_kib(&mut self.gateway.unread_answers);
    }

    fn set_neighbour(&mut self, role: &str, url: &str) {
        match role {
            "accounts" => self.accounts_url = url.parse().ok(),
            "chat" => self.has_chat = true,
            _ => {}
        }
    }

    /// The services behind the gateway may be unavailable: `/readyz` names the missing ones. Needs a running runtime.
    async fn open(mut self: Box<Self>, context: Context) -> Result<Box<dyn Role>, Error> {
        let key = self.secret.key().map_err(Error::Config)?;
        let redis = storage::redis::location(&self.redis, &self.deployment)?;
        let accounts = self.accounts().map_err(Error::Config)?;
        let watcher = Watcher::start(redis.clone()).map_err(Error::Config)?;
        let sessions = storage::redis::sessions(redis)?;
        Ok(Box::new(Gateway {
            listener: listen(context.listen_flag, &mut self.gateway.listen)?,
            address: self.gateway.listen,
            sessions: Arc::new(sessions),
            watcher,
            key,
            accounts,
            payload_limit: self.payload_limit,
            service: self.gateway,
            has_chat: self.has_chat,
        }))
    }
}

impl Gateway {
    fn settings(&self) -> Settings {
        Settings {
            trusted_proxies: Some(self.service.trusted_proxy.clone()),
            keep_alive: Duration::from_secs(self.service.keep_alive.into()),
            half_closed: true,
            on_connect: |io, extensions| {
                socketio::on_connect(io, extensions);
                ::gateway::on_connect(io, extensions);
            },
            // One for the client and one for the connection to the node, which has another in the same process.
            descriptors: if self.has_chat { 3 } else { 2 },
            ..Settings::internal(Duration::from_secs(self.service.head_timeout.into()), HTTP_DRAIN)
        }
    }
}

#[async_trait(?Send)]
impl Role for Gateway {
    fn name(&self) -> &'static str {
        "gateway"
    }

    fn drain_delay(&self) -> Duration {
        DRAIN_DELAY
    }

    async fn start(self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error> {
        let (settings, has_chat) = (self.settings(), self.has_chat);
        let gateway = ::gateway::Gateway::new(self.service, self.sessions.clone());
        let proxy = gateway.proxy(Upstreams {
            accounts: self.accounts,
            nodes: self.watcher.nodes(),
            refresh: self.watcher.refresh(),
            key: self.key,
            payload_limit: self.payload_limit,
        });
        process.add_probe("Redis", redis_probe(self.sessions, self.watcher));
        process.add_probe("chat", chat_probe(proxy.clone()));
        let idle = gateway.clone();
        process.add_upkeep(move || idle.remove_idle_clients());
        let workers = proxy.clone();
        let http = process.serve(self.listener, settings, move || {
            let proxy = workers.worker();
            App::new()
                .configure(|service| gateway.routes(service))
                .service(proxy.login().wrap(gateway.login_limit()))
                .service(proxy.registration().wrap(gateway.registration_limit()))
                .configure(|service| proxy.routes(service))
                .default_service(web::to(::gateway::not_found))
                .wrap(gateway.middleware())
        })?;
        tracing::info!(address = %self.address, "gateway listens");
        Ok(Box::new(Parts { http, proxy, has_chat, drained_since: None }))
    }
}

/// Probes whether sessions can be verified and nodes can be found. Keeps the table of nodes up to date.
fn redis_probe(sessions: Arc<RedisSessions>, watcher: Watcher) -> Probe {
    let watcher = Arc::new(watcher);
    Box::new(move || {
        let (sessions, watcher) = (sessions.clone(), watcher.clone());
        Box::pin(async move {
            match sessions.not_ready_reason().await {
                Some(reason) => Some(reason),
                None => watcher.not_ready_reason(),
            }
        })
    })
}

/// Probes whether a chat node accepts sessions. Without accounts the gateway is ready: users who are logged in can still
/// chat, and other gateways would not do better.
fn chat_probe(proxy: Proxy) -> Probe {
    Box::new(move || {
        let reason = (!proxy.has_nodes()).then(|| "has no node that accepts sessions".to_owned());
        Box::pin(async move { reason })
    })
}

#[async_trait(?Send)]
impl Running for Parts {
    /// Connections are accepted until the server stops: clients whose proxy has not detected the drain get answers, and the
    /// clients of a chat node of the process fetch its last packets. The chat node closes its sockets first. Sockets of
    /// other nodes are closed when the requests have ended.
    async fn drain(&mut self, step: Step) {
        match (step, self.has_chat) {
            (Step::Refuse, _) => {
                self.drained_since = Some(Instant::now());
                self.proxy.drain();
            }
            (Step::Close, false) => self.proxy.drain_requests(REQUEST_DRAIN).await,
            (Step::Answer, has_chat) => {
                if has_chat {
                    let elapsed = self.drained_since.map_or(Duration::ZERO, |since| since.elapsed());
                    self.proxy.drain_requests(REQUEST_DRAIN.saturating_sub(elapsed)).await;
                }
                self.proxy.close_sockets().await;
                self.http.stop(true).await;
            }
            (Step::Close | Step::Complete | Step::End, _) => {}
        }
    }
}
