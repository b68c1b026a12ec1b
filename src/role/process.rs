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
use futures_util::future::pending;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::{
    admin::{Probe, Readiness},
    error::Error,
    http::{self, Settings, Unfinished},
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
    pub(super) stopping: watch::Receiver<bool>,
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
    pub fn add_probe(&self, part: &'static str, probe: Probe) {
        self.readiness.add(self.role, part, probe, false);
    }

    /// Adds the check of a part without which the process is degraded.
    pub fn add_degrading(&self, part: &'static str, probe: Probe) {
        self.readiness.add(self.role, part, probe, true);
    }

    /// Adds periodic work of the role.
    pub fn add_upkeep(&self, work: impl Fn() + 'static) {
        self.upkeep.borrow_mut().push(Box::new(work));
    }

    /// Resolves when the end of the process is requested before the start is complete.
    pub async fn stop_requested(mut self) {
        // An error means that the process has started all roles.
        if self.stopping.wait_for(|is_stopping| *is_stopping).await.is_err() {
            pending::<()>().await;
        }
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
