//! The process, as a role uses it during its start: readiness, upkeep and HTTP servers. Created by [`super::harness`].

use std::{
    cell::RefCell,
    fmt,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_http::{Request, Response, body::MessageBody};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::{
    dev::{AppConfig, ServerHandle},
    rt::{spawn, time::interval},
};
use chat::{Chat, Deps};
use futures_util::{FutureExt, future::ready};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    admin::{Readiness, not_ready_unless},
    error::Error,
    heartbeat,
    http::{self, Settings, Unfinished},
    listener::listen,
    storage::SharedStores,
    supervision::{self, essential},
};

/// The process, as a role uses it during its start.
#[derive(Clone)]
pub struct Process {
    /// Address of the admin server.
    pub admin: SocketAddr,
    /// Name of the role. `None` when the process names no roles.
    pub(super) role: Option<&'static str>,
    /// The limit of the memory of unfinished requests of all servers.
    pub(super) unfinished: Unfinished,
    pub(super) readiness: Arc<Readiness>,
    pub(super) upkeep: Upkeep,
    /// The flag of the address of the role.
    pub(super) listen_flag: &'static str,
}

/// Periodic work of the roles.
pub(super) type Upkeep = Rc<RefCell<Vec<Box<dyn Fn()>>>>;

/// Interval of the upkeep.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Runs periodic work while the process lives: the upkeep of the metrics, and that of the roles.
pub(super) async fn run_upkeep(metrics: PrometheusHandle, upkeep: Upkeep) {
    supervision::restart("upkeep", || async {
        let mut ticks = interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            metrics.run_upkeep();
            upkeep.borrow().iter().for_each(|work| work());
        }
    })
    .await;
}

impl Process {
    /// Adds the check of a part without which the process is not ready.
    pub fn add_probe<F>(&self, part: &'static str, probe: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Option<String>> + Send + 'static,
    {
        self.readiness.add(self.role, part, Box::new(move || probe().boxed()), false);
    }

    /// Adds the check of the store of durable data.
    pub fn add_store(&self, stores: &SharedStores) {
        let backend = stores.backend.clone();
        self.add_probe(backend.name(), move || {
            let backend = backend.clone();
            async move { backend.problem().await }
        });
    }

    /// Adds the check of a part without which the process is degraded.
    pub fn add_degrading(
        &self,
        part: &'static str,
        probe: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) {
        self.readiness.add(self.role, part, Box::new(move || ready(probe()).boxed()), true);
    }

    /// Starts the chat, and adds its checks: whether its parts answer, and whether it receives the online users, without which everything
    /// else works.
    ///
    /// # Errors
    /// When the chat cannot start.
    pub async fn start_chat(&self, deps: Deps) -> Result<Chat, Error> {
        let chat = chat::start(deps).await.map_err(|error| Error::part("chat", error))?;
        heartbeat::watch_chat(&chat);
        let (parts, presence) = (chat.clone(), chat.clone());
        self.add_probe("chat's parts", move || {
            let chat = parts.clone();
            async move { not_ready_unless(chat.is_ready().await) }
        });
        self.add_degrading("presence", move || presence.presence_degradation());
        Ok(chat)
    }

    /// Adds periodic work of the role.
    pub fn add_upkeep(&self, work: impl Fn() + 'static) {
        self.upkeep.borrow_mut().push(Box::new(work));
    }

    /// Listens on the address of the role. Replaces port 0 in it by the port that the system chose.
    ///
    /// # Errors
    /// When the process cannot listen on it.
    pub fn listen(&self, address: &mut SocketAddr) -> Result<TcpListener, Error> {
        listen(self.listen_flag, address)
    }

    /// Starts an HTTP server with one application from `factory` for each worker. Its end ends the process.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn serve<F, I, S, B>(
        &self,
        listener: TcpListener,
        settings: Settings,
        factory: F,
    ) -> Result<ServerHandle, Error>
    where
        F: Fn() -> I + Send + Clone + 'static,
        I: IntoServiceFactory<S, Request>,
        S: ServiceFactory<Request, Config = AppConfig> + 'static,
        S::Error: Into<actix_web::Error> + 'static,
        S::InitError: fmt::Debug,
        S::Response: Into<Response<B>> + 'static,
        <S::Service as Service<Request>>::Future: 'static,
        B: MessageBody + 'static,
    {
        let name = self.role.map_or_else(|| "http".to_owned(), |role| format!("http-{role}"));
        let settings = Settings { name: Some(name), unfinished: self.unfinished.clone(), ..settings };
        let server = http::serve(listener, settings, factory).map_err(|error| Error::part("http", error))?;
        let handle = server.handle();
        let part = self.role;
        spawn(essential("http server", async move {
            if let Err(error) = server.await {
                tracing::error!(part, %error, "the http server failed");
            }
        }));
        Ok(handle)
    }
}
