//! `godzilla serve`: all services in one process on an embedded store. Opens stores and sockets, which can fail, then starts
//! the parts from the inside out (stores, presence, chat, sockets, gateway), and ends them from the outside in.

mod banner;
mod flags;

use std::{net::TcpListener, sync::Arc, time::Duration};

use accounts::Accounts;
use actix_web::{App, dev::ServerHandle, web};
use async_trait::async_trait;
use chat::{Chat, Deps, Order, client::Clients};
use gateway::Gateway;
use socketio::{CloseReason, Io, Server};
use tokio::task::spawn_blocking;

pub use self::flags::{Config, ROLE};
use crate::{
    error::Error,
    http::Settings,
    listener::listen,
    role::{
        harness::{Process, Running, Step},
        presence_thread::PresenceThread,
    },
    storage::sqlite,
    user_lookup::StoreUserLookup,
};

/// The running parts.
struct Parts {
    /// The HTTP server for clients.
    http: ServerHandle,
    /// Handles the clients' commands until each socket is closed.
    chat: Chat,
    /// Reaches all sockets.
    io: Io,
    /// Receives the disconnects of all users.
    presence: PresenceThread,
    /// Closes the stores.
    close: Box<dyn Fn()>,
}

/// How long requests in progress may continue during the drain, in seconds. The body of a request has 10 s by default.
const HTTP_DRAIN: u64 = 11;

/// Number of steps in which the drain closes all sockets, so that clients do not reconnect at the same time.
const CLOSING_STEPS: u32 = 10;

/// Pause between two of those steps.
const CLOSING_PAUSE: Duration = Duration::from_millis(100);

/// Opens the sockets and the stores before it starts the parts. Replaces port 0 in `config` by the port that the system chose.
async fn start(mut config: Config, process: Process) -> Result<Parts, Error> {
    let http = process.listen(&mut config.gateway.listen)?;
    let presence = listen("--presence-listen", &mut config.presence_listen)?;
    config.chat.presence_url = format!("http://{}", config.presence_listen);
    let directory = config.store.directory().to_owned();
    // Opening blocks, and the process answers `/livez` and signals meanwhile. The panic hook has reported a panic.
    let stores = spawn_blocking(move || sqlite::open(&directory)).await;
    let stores = stores.unwrap_or_else(|_| Err(Error::part("stores", "opening them panicked")))?;
    stores.probes.into_iter().for_each(|(part, probe)| process.add_probe(part, probe));
    let presence = PresenceThread::start(presence, config.presence.clone());
    let io = Io::new();
    let deps = Deps {
        history: stores.history,
        order: Order::Store(stores.journal),
        directory: stores.directory,
        ticket_key: stores.ticket_key,
        user_lookup: Arc::new(StoreUserLookup(stores.users.clone())),
        sessions: stores.sessions.clone(),
        io: io.clone(),
        config: config.chat.clone(),
    };
    let chat = process.start_chat(deps).await?;
    let accounts = Accounts::new(stores.users, stores.sessions.clone(), &config.accounts)
        .map_err(|error| Error::part("accounts", format!("{error:?}")))?;
    let sockets = Server::new(io.clone(), Clients::new(chat.clone()), config.sockets.to_config());
    let gateway = Gateway::new(config.gateway.clone(), stores.sessions);
    let idle = gateway.clone();
    process.add_upkeep(move || idle.remove_idle_clients());
    let http = http_server(&process, http, &config, (gateway, accounts, chat.clone(), sockets))?;
    tracing::info!(address = %config.gateway.listen, "http listens");
    banner::show(&config, process.admin);
    Ok(Parts { http, chat, io, presence, close: stores.close })
}

/// The HTTP server for clients: the gateway's middleware around all services.
fn http_server(
    process: &Process,
    listener: TcpListener,
    config: &Config,
    (gateway, accounts, chat, sockets): (Gateway, Accounts, Chat, Server<Clients>),
) -> Result<ServerHandle, Error> {
    let settings = Settings {
        trusted_proxies: Some(config.gateway.trusted_proxy.clone()),
        keep_alive: Duration::from_secs(config.gateway.keep_alive.into()),
        half_closed: true,
        on_connect: socketio::on_connect,
        ..Settings::internal(Duration::from_secs(config.gateway.head_timeout.into()), HTTP_DRAIN)
    };
    process.serve(listener, settings, move || {
        App::new()
            .configure(|service| gateway.routes(service))
            .configure(|service| accounts.routes(service))
            .service(accounts.login().wrap(gateway.login_limit()))
            .service(accounts.registration().wrap(gateway.registration_limit()))
            .configure(|service| chat.routes(service))
            .configure(|service| sockets.mount(service))
            .default_service(web::to(gateway::not_found))
            .wrap(gateway.middleware())
    })
}

#[async_trait(?Send)]
impl Running for Parts {
    /// Refuses new sockets, closes the open ones, then completes requests in progress, accepted work that no client waits for,
    /// and presence.
    async fn drain(&mut self, step: Step) {
        match step {
            Step::Refuse => {
                self.http.pause().await;
                self.chat.stop_connects();
            }
            Step::Close => {
                self.io.close_all(CloseReason::ShuttingDown, CLOSING_STEPS, CLOSING_PAUSE).await;
            }
            Step::Stop => self.http.stop(true).await,
            Step::Complete => self.chat.drain().await,
            Step::End => self.presence.stop().await,
            Step::Answer | Step::Disconnect => {}
        }
    }

    /// Some parts that were not awaited still hold handles of the stores.
    fn exit(&self) {
        (self.close)();
    }
}
