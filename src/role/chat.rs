//! `godzilla chat`: one of any number of chat nodes with clients' sockets, on MongoDB and Redis, behind gateways. It
//! waits for its stores before it starts other parts, which need them, and opens itself to gateways last.

mod flags;
mod stores;

use std::{
    net::TcpListener,
    rc::Rc,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::chat::{Deps, client::Clients};
use actix_web::{
    App, dev::ServerHandle, http::header::HeaderName, middleware::from_fn, rt::time::sleep, web,
};
use async_trait::async_trait;
use cluster::NodeLease;
use proto::{identity::POLL_LIMIT, signature::Key};
use socketio::{CloseReason, Io, Server};

pub use self::flags::{Config, ROLE};
use self::stores::{NodeStatus, Stores};
use crate::{
    config::Sockets,
    error::Error,
    heartbeat,
    http::Settings,
    listener::listen,
    role::{
        chat_probe,
        definition::Context,
        harness::{Process, Role, Running, Step},
        new_session_gate::NewSessionGate,
        presence_probe, verify_identity,
    },
    storage,
    user_lookup::StoreUserLookup,
};

/// Deadline of a request head.
const HEAD: Duration = Duration::from_secs(5);

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

/// The role before its start.
struct Chat {
    listener: TcpListener,
    /// Address at which gateways reach the node.
    address: cluster::Backend,
    key: Key,
    stores: Stores,
    node: String,
    config: Config,
}

/// The running parts.
struct Parts {
    /// Gateways find the node until it is closed. `None` after the release.
    lease: Option<NodeLease>,
    /// What started after the lease was acquired. `None` when the end was requested before.
    opened: Option<Opened>,
}

/// The parts that use the stores.
struct Opened {
    /// New sessions are refused.
    new_session_gate: NewSessionGate,
    /// The HTTP server of the node.
    http: ServerHandle,
    /// Handles the clients' commands until each socket is closed.
    chat: ::chat::Chat,
    /// Reaches all sockets.
    io: Io,
}

impl Chat {
    /// Reads the secrets and listens. The stores may be unavailable.
    async fn open(mut config: Config, context: Context) -> Result<Self, Error> {
        let key = config.secret.key().map_err(Error::Config)?;
        let redis = storage::redis::location(&config.redis, &config.deployment)?;
        let stores = Stores::new(&config, redis).await?;
        let node = config.chat.node_name();
        NodeLease::check_name(&node).map_err(Error::Config)?;
        let listener = listen(context.listen_flag, &mut config.listen)?;
        let address = config.address().map_err(Error::Config)?;
        Ok(Self { listener, address, key, stores, node, config })
    }
}

#[async_trait(?Send)]
impl Role for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    async fn start(self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error> {
        let this = *self;
        let status = NodeStatus::new(OnceLock::new());
        for (part, probe) in this.stores.probes(status.clone()) {
            process.add_probe(part, probe);
        }
        let Some(lease) = this.stores.lease(&this.node, this.address, process.clone()).await? else {
            return Ok(Box::new(Parts { lease: None, opened: None }));
        };
        _ = status.set(Box::new(lease.not_ready_reason()));
        let Some(order) = this.stores.prepared(&lease, &this.node, process.clone()).await else {
            return Ok(Box::new(Parts { lease: Some(lease), opened: None }));
        };
        let io = Io::new();
        let deps = Deps {
            history: this.stores.shared.history.clone(),
            order,
            directory: this.stores.shared.directory.clone(),
            ticket_key: this.key.clone(),
            user_lookup: Arc::new(StoreUserLookup(this.stores.shared.users.clone())),
            sessions: this.stores.sessions.clone(),
            io: io.clone(),
            config: this.config.chat,
        };
        let chat = ::chat::start(deps).await.map_err(|error| Error::part("chat", error))?;
        heartbeat::watch_chat(&chat);
        process.add_probe("chat's parts", chat_probe(&chat));
        process.add_degrading("presence", presence_probe(&chat));
        this.stores.add_degrading(&process, &chat);
        let gate = NewSessionGate::at(&this.config.sockets.to_config().path);
        let sockets = sockets(&this.config.sockets, &this.node, &io, &chat);
        let checks = (this.key, gate.clone());
        let http = http_server(&process, this.listener, (chat.clone(), sockets), checks)?;
        lease.open().await;
        tracing::info!(address = %this.config.listen, node = this.node, "chat listens");
        let opened = Opened { new_session_gate: gate, http, chat, io };
        Ok(Box::new(Parts { lease: Some(lease), opened: Some(opened) }))
    }
}

/// The Socket.IO server of this node.
fn sockets(config: &Sockets, node: &str, io: &Io, chat: &::chat::Chat) -> Server<Clients> {
    let mut config = config.to_config();
    // Gateways read the name of the node from the session id.
    config.sid_suffix = format!(".{node}");
    config.poll_limit_header = Some(HeaderName::from_static(POLL_LIMIT));
    Server::new(io.clone(), Clients::new(chat.clone()), config)
}

fn http_server(
    process: &Process,
    listener: TcpListener,
    (chat, sockets): (::chat::Chat, Server<Clients>),
    (key, new_session_gate): (Key, NewSessionGate),
) -> Result<ServerHandle, Error> {
    let settings = Settings { on_connect: socketio::on_connect, ..Settings::internal(HEAD, HTTP_DRAIN) };
    process.serve(listener, settings, move || {
        let (key, new_session_gate) = (Rc::new(key.clone()), new_session_gate.clone());
        App::new()
            .configure(|service| chat.routes(service))
            .configure(|service| sockets.mount(service))
            .default_service(web::to(gateway::not_found))
            .wrap(from_fn(move |request, next| new_session_gate.clone().check(request, next)))
            .wrap(from_fn(move |request, next| verify_identity::verify_identity(key.clone(), request, next)))
    })
}

#[async_trait(?Send)]
impl Running for Parts {
    /// Gateways send no new sessions. The sockets close, then requests in progress and accepted work that no client waits
    /// for complete. A gateway of the process finds the node until it has answered its last request.
    async fn drain(&mut self, step: Step) {
        match (step, &self.opened) {
            (Step::Refuse, Some(opened)) => {
                opened.new_session_gate.refuse();
                if let Some(lease) = &self.lease {
                    lease.close().await;
                }
            }
            (Step::Close, Some(opened)) => {
                sleep(GATEWAY_REFRESH).await;
                opened.chat.stop_connects();
                opened.io.close_all(CloseReason::ShuttingDown, CLOSING_STEPS, CLOSING_PAUSE).await;
                sleep(FINAL_POLL).await;
            }
            (Step::Complete, opened) => {
                if let Some(lease) = self.lease.take() {
                    lease.release().await;
                }
                if let Some(opened) = opened {
                    opened.http.stop(true).await;
                    opened.chat.drain().await;
                }
            }
            (Step::Refuse | Step::Close, None) | (Step::Answer | Step::End, _) => {}
        }
    }

    /// Resolves when another node has the name.
    async fn lost(&self) -> Error {
        match &self.lease {
            Some(lease) => lease.lost().await,
            None => std::future::pending().await,
        }
        Error::part("chat", "another node has acquired the name because the lease of this node expired")
    }
}
