//! `godzilla gateway`: the gateway, in front of accounts and of any number of chat nodes, which it finds in Redis.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ::gateway::{Proxy, Upstreams};
use actix_web::{App, dev::ServerHandle, web};
use async_trait::async_trait;
use clap::Args;
use cluster::{Backend, Watcher};
use futures_util::future::ready;

use crate::{
    config::{shared, sockets},
    error::Error,
    http::Settings,
    limits,
    role::{
        definition::{Definition, Requirements, RoleConfig},
        harness::{Process, Running, Step},
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
    // Sessions, the table of chat nodes, and the key of signed identities.
    #[command(flatten)]
    pub cluster: shared::Cluster,
    // Whether a chat node runs in the same process.
    #[arg(skip)]
    pub has_chat: bool,
}

/// The running parts.
struct Parts {
    http: ServerHandle,
    proxy: Proxy,
}

impl Config {
    /// The address of the accounts service.
    fn accounts(&self) -> Result<Backend, Error> {
        let missing = || Error::Config(shared::missing(ACCOUNTS_FLAG, "where the accounts service is"));
        self.accounts_url.clone().ok_or_else(missing)
    }

    fn settings(&self) -> Settings {
        Settings {
            trusted_proxies: Some(self.gateway.trusted_proxy.clone()),
            keep_alive: Duration::from_secs(self.gateway.keep_alive.into()),
            half_closed: true,
            on_connect: |io, extensions| {
                socketio::on_connect(io, extensions);
                ::gateway::on_connect(io, extensions);
            },
            // One for the client and one for the connection to the node, which has another in the same process.
            descriptors: if self.has_chat { 3 } else { 2 },
            ..Settings::internal(Duration::from_secs(self.gateway.head_timeout.into()), HTTP_DRAIN)
        }
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
        Requirements { cluster: Some(&self.cluster), mongo: None }
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

    fn drain_delay(&self) -> Duration {
        DRAIN_DELAY
    }

    /// The services behind the gateway may be unavailable: `/readyz` names the missing ones. Without accounts the gateway is ready: users
    /// who are logged in can still chat, and other gateways would not do better.
    async fn start(mut self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error> {
        let (key, location, accounts) = (self.cluster.key()?, self.cluster.location()?, self.accounts()?);
        let watcher = Watcher::start(location.clone()).map_err(Error::Config)?;
        let sessions = Arc::new(storage::redis::sessions(location)?);
        let listener = process.listen(&mut self.gateway.listen)?;
        let (settings, address) = (self.settings(), self.gateway.listen);
        let gateway = ::gateway::Gateway::new(self.gateway, sessions.clone());
        let proxy = gateway.proxy(Upstreams {
            accounts,
            nodes: watcher.nodes(),
            refresh: watcher.refresh(),
            key,
            payload_limit: self.payload_limit,
        });
        // The probe keeps the table of nodes up to date.
        let watcher = Arc::new(watcher);
        process.add_probe("Redis", move || {
            let (sessions, watcher) = (sessions.clone(), watcher.clone());
            async move {
                match sessions.not_ready_reason().await {
                    Some(reason) => Some(reason),
                    None => watcher.not_ready_reason(),
                }
            }
        });
        let nodes = proxy.clone();
        process.add_probe("chat", move || {
            ready((!nodes.has_nodes()).then(|| "has no node that accepts sessions".to_owned()))
        });
        let idle = gateway.clone();
        process.add_upkeep(move || idle.remove_idle_clients());
        let workers = proxy.clone();
        let http = process.serve(listener, settings, move || {
            let proxy = workers.worker();
            App::new()
                .configure(|service| gateway.routes(service))
                .service(proxy.login().wrap(gateway.login_limit()))
                .service(proxy.registration().wrap(gateway.registration_limit()))
                .configure(|service| proxy.routes(service))
                .default_service(web::to(::gateway::not_found))
                .wrap(gateway.middleware())
        })?;
        tracing::info!(%address, "gateway listens");
        Ok(Box::new(Parts { http, proxy }))
    }
}

#[async_trait(?Send)]
impl Running for Parts {
    /// Connections are accepted until the server stops: clients whose proxy has not detected the drain get answers, and the
    /// clients of a chat node of the process fetch its last packets. The chat node closes its sockets first. Sockets of
    /// other nodes are closed when the requests have ended.
    async fn drain(&mut self, step: Step) {
        match step {
            Step::Refuse => self.proxy.drain(),
            Step::Answer => self.proxy.drain_requests(Duration::MAX).await,
            Step::Disconnect => {
                self.proxy.close_sockets().await;
                self.http.stop(true).await;
            }
            Step::Close | Step::Stop | Step::Complete | Step::End => {}
        }
    }
}
