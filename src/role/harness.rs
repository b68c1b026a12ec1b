//! What every role shares: logs, metrics, the limit of open files, signals, the admin server with readiness, HTTP servers, upkeep,
//! supervision and the drain. A role is a value with what it has opened ([`Role`]), and one with what runs ([`Running`]).

use std::{pin::pin, sync::Arc, time::Duration};

use actix_web::{dev::ServerHandle, rt::spawn};
use async_trait::async_trait;
use futures_util::future::{join_all, pending, select_all, try_join_all};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

pub use super::process::Process;
use super::process::{Upkeep, run_upkeep};
use crate::{
    admin::{self, Readiness},
    error::Error,
    http::Unfinished,
    limits,
    listener::listen,
    shutdown::{self, Stop},
    supervision::essential,
    telemetry,
};

/// The configuration that a process has once, for all its roles.
pub struct Shared {
    /// Address of the admin server.
    pub admin: admin::Config,
    /// The log.
    pub telemetry: telemetry::Config,
    /// Whether `/readyz` and the names of threads contain the names of the roles.
    pub named: bool,
}

/// A role that has read its configuration and listens on its addresses.
#[async_trait(?Send)]
pub trait Role {
    /// The name of the role.
    fn name(&self) -> &'static str;

    /// How long requests are accepted after SIGTERM, unless the configuration sets it: the time in which load balancers and Kubernetes
    /// stop sending requests to the role.
    fn drain_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// Starts the parts. A role that waits for its stores stops waiting when the process ends
    /// ([`Process::stop_requested`]), and returns what it has started.
    async fn start(self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error>;
}

/// The running parts of a role.
#[async_trait(?Send)]
pub trait Running {
    /// Does one step of the drain. All roles of the process do a step at the same time, and the next step after all of them
    /// have done it.
    async fn drain(&mut self, step: Step);

    /// Resolves when the role cannot go on. The process then drains and ends with this error.
    async fn lost(&self) -> Error {
        pending().await
    }

    /// Called after the drain, even after one that did not finish in time.
    fn exit(&self) {}
}

/// The steps of a drain, in this order. They fit into the deadline of [`Stop::drain`] together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Accept no new sessions and sockets.
    Refuse,
    /// Answer the requests in progress, and close the sockets, each after the acknowledgements of its commands.
    Close,
    /// Stop the server of a gateway, which other roles of the process still answer.
    Answer,
    /// Stop the servers of chat, and complete accepted work that no client waits for.
    Complete,
    /// Stop the services that other roles use.
    End,
}

/// Runs the roles that `open` returns until a signal requests the end, then drains them. A signal also ends `open`.
///
/// # Errors
/// When a role cannot be opened or started, or a part ends unexpectedly.
pub fn run(
    shared: Shared,
    open: impl AsyncFnOnce() -> Result<Vec<Box<dyn Role>>, Error>,
) -> Result<(), Error> {
    telemetry::logs(&shared.telemetry)?;
    let metrics = telemetry::metrics()?;
    limits::raise_open_files();
    shutdown::run(supervise(shared, metrics, open))
}

async fn supervise(
    mut shared: Shared,
    metrics: PrometheusHandle,
    open: impl AsyncFnOnce() -> Result<Vec<Box<dyn Role>>, Error>,
) -> Result<(), Error> {
    let mut stop = Stop::listen()?;
    // Before the stores are opened: a start that fails leaves them as they are.
    let (readiness, unfinished, admin) = serve_operators(&mut shared, &metrics)?;
    let Some(roles) = unless_stopped(&mut stop, open()).await? else {
        readiness.drain();
        admin.stop(false).await;
        return Ok(());
    };
    let upkeep = Upkeep::default();
    spawn(run_upkeep(metrics, upkeep.clone()));
    let (stopping, stop_requested) = watch::channel(false);
    let delay = drain_delay(&shared.admin, &roles);
    let start = |role: Box<dyn Role>| {
        let process = Process {
            admin: shared.admin.admin_listen,
            role: shared.named.then_some(role.name()),
            unfinished: unfinished.clone(),
            readiness: readiness.clone(),
            upkeep: upkeep.clone(),
            stopping: stop_requested.clone(),
        };
        role.start(process)
    };
    let mut starting = pin!(try_join_all(roles.into_iter().map(start)));
    let mut running = Vec::new();
    let mut outcome = tokio::select! {
        started = &mut starting => {
            running = started?;
            readiness.open();
            wait(&mut stop, &running).await?
        }
        signal = stop.requested() => {
            tracing::info!(signal = signal?, "draining: the roles drain when they have started");
            Ok(())
        }
    };
    readiness.drain();
    // A process that has not been ready gets no requests.
    let delay = if stop.is_terminated() && !running.is_empty() { delay } else { Duration::ZERO };
    let drained = async {
        if running.is_empty() {
            stopping.send_replace(true);
            match starting.await {
                Ok(started) => running = started,
                Err(error) => outcome = Err(error),
            }
        }
        drain(&mut running).await;
        admin.stop(false).await;
    };
    stop.drain(delay, drained).await;
    running.iter().for_each(|role| role.exit());
    tracing::info!("stopped");
    outcome
}

/// Starts the admin server.
fn serve_operators(
    shared: &mut Shared,
    metrics: &PrometheusHandle,
) -> Result<(Arc<Readiness>, Unfinished, ServerHandle), Error> {
    let operators = listen("--admin-listen", &mut shared.admin.admin_listen)?;
    let readiness = Readiness::new();
    let unfinished = Unfinished::default();
    let server = admin::start(operators, readiness.clone(), metrics.clone(), unfinished.clone())?;
    let admin = server.handle();
    spawn(essential("admin server", server));
    Ok((readiness, unfinished, admin))
}

/// How long a process of these roles accepts requests after SIGTERM.
fn drain_delay(config: &admin::Config, roles: &[Box<dyn Role>]) -> Duration {
    let longest = roles.iter().map(|role| role.drain_delay()).max();
    config.drain_delay.or(longest).unwrap_or_default()
}

/// The roles that `opening` returns. `None` when a signal requests the end before.
///
/// # Errors
/// When a role cannot be opened, or a part has ended unexpectedly.
async fn unless_stopped(
    stop: &mut Stop,
    opening: impl Future<Output = Result<Vec<Box<dyn Role>>, Error>>,
) -> Result<Option<Vec<Box<dyn Role>>>, Error> {
    tokio::select! {
        roles = opening => roles.map(Some),
        signal = stop.requested() => {
            tracing::info!(signal = signal?, "draining");
            tracing::info!("stopped before the stores are open");
            Ok(None)
        }
    }
}

/// Waits until a signal requests the end, or a role cannot go on. The inner error is the outcome of the process after its
/// drain.
///
/// # Errors
/// When a part has ended unexpectedly: there is no drain.
async fn wait(stop: &mut Stop, running: &[Box<dyn Running>]) -> Result<Result<(), Error>, Error> {
    tokio::select! {
        signal = stop.requested() => {
            tracing::info!(signal = signal?, "draining");
            Ok(Ok(()))
        }
        (error, ..) = select_all(running.iter().map(|role| role.lost())) => Ok(Err(error)),
    }
}

async fn drain(running: &mut [Box<dyn Running>]) {
    for step in [Step::Refuse, Step::Close, Step::Answer, Step::Complete, Step::End] {
        join_all(running.iter_mut().map(|role| role.drain(step))).await;
    }
}
