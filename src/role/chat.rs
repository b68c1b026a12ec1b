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
    http::Settings,
    role::{
        harness::{Process, Running, Step},
        new_session_gate::NewSessionGate,
        verify_identity,
    },
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

/// The running parts.
struct Parts {
    /// Gateways find the node until it is closed. `None` after the release.
    lease: Option<NodeLease>,
    /// New sessions are refused.
    new_session_gate: NewSessionGate,
    /// The HTTP server of the node.
    http: ServerHandle,
    /// Handles the clients' commands until each socket is closed.
    chat: ::chat::Chat,
    /// Reaches all sockets.
    io: Io,
}

/// Waits until the node holds its lease and its stores are available: no work is done under a name that another node holds.
async fn start(mut config: Config, process: Process) -> Result<Parts, Error> {
    let (key, stores) = (config.cluster.key()?, Stores::new(&config).await?);
    let node = config.chat.node_name();
    let listener = process.listen(&mut config.listen)?;
    let status = NodeStatus::new(OnceLock::new());
    stores.add_probes(&process, status.clone());
    let lease = stores.lease(&node, config.address().map_err(Error::Config)?).await?;
    _ = status.set(Box::new(lease.not_ready_reason()));
    lease.acquired().await;
    let order = stores.wait(&node).await;
    let io = Io::new();
    let deps = Deps {
        history: stores.shared.history.clone(),
        order,
        directory: stores.shared.directory.clone(),
        ticket_key: key.clone(),
        user_lookup: Arc::new(StoreUserLookup(stores.shared.users.clone())),
        sessions: stores.sessions.clone(),
        io: io.clone(),
        config: config.chat,
    };
    let chat = process.start_chat(deps).await?;
    // Without the stream, events are delivered from the store, later, and clients get no offsets for recovery.
    let follower = chat.clone();
    process.add_degrading("the log", move || follower.broker_not_ready_reason());
    let gate = NewSessionGate::at(&config.sockets.to_config().path);
    let sockets = sockets(&config.sockets, &node, &io, &chat);
    let http = http_server(&process, listener, (chat.clone(), sockets), (key, gate.clone()))?;
    lease.open().await;
    tracing::info!(address = %config.listen, node, "chat listens");
    Ok(Parts { lease: Some(lease), new_session_gate: gate, http, chat, io })
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
        match step {
            Step::Refuse => {
                self.new_session_gate.refuse();
                if let Some(lease) = &self.lease {
                    lease.close().await;
                }
            }
            Step::Close => {
                sleep(GATEWAY_REFRESH).await;
                self.chat.stop_connects();
                self.io.close_all(CloseReason::ShuttingDown, CLOSING_STEPS, CLOSING_PAUSE).await;
                sleep(FINAL_POLL).await;
            }
            Step::Stop => {
                if let Some(lease) = self.lease.take() {
                    lease.release().await;
                }
                self.http.stop(true).await;
            }
            Step::Complete => self.chat.drain().await,
            Step::Answer | Step::Disconnect | Step::End => {}
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
