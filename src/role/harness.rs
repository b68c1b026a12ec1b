//! What every role shares: logs, metrics, the limit of open files, signals, the admin server with readiness, HTTP servers, upkeep,
//! supervision and the drain. A role is its flags ([`RoleConfig`]), and a value with what runs ([`Running`]).

use std::{fmt, sync::Arc, time::Duration};

use actix_web::{dev::ServerHandle, rt::spawn};
use async_trait::async_trait;
use futures_util::future::{join_all, pending, select_all, try_join_all};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::{Instant, timeout_at};

pub use super::process::Process;
use super::{
    definition::RoleConfig,
    process::{Upkeep, run_upkeep},
};
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

/// A role of a process.
pub struct Member {
    /// The name of the role.
    pub name: &'static str,
    /// The flag of its address.
    pub listen_flag: &'static str,
    /// Its flags.
    pub config: Box<dyn RoleConfig>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
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

/// The steps of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Accept no new sessions and sockets.
    Refuse,
    /// Close the sockets, each after the acknowledgements of its commands.
    Close,
    /// Answer the requests in progress of a gateway.
    Answer,
    /// Close the sockets of a gateway and stop its server, which other roles of the process still answer.
    Disconnect,
    /// Stop the servers of chat.
    Stop,
    /// Complete accepted work that no client waits for.
    Complete,
    /// Stop the services that other roles use.
    End,
}

/// The steps in their order, each with its end in seconds after the begin of the drain. The drain then leaves the step and begins the next
/// one: whatever the roles of a process are, each step has its time within the deadline of [`Stop::drain`]. A pending poll gets its ping as
/// response, and a body arrives, before the end of [`Step::Answer`].
const STEPS: [(Step, u32); 7] = [
    (Step::Refuse, 11),
    (Step::Close, 11),
    (Step::Answer, 11),
    (Step::Disconnect, 14),
    (Step::Stop, 15),
    (Step::Complete, 16),
    (Step::End, 17),
];

/// Runs the roles until a signal requests the end, then drains them. A signal during the start ends it without a drain: a process that has
/// not been ready gets no requests.
///
/// # Errors
/// When a role cannot be started, or a part ends unexpectedly.
pub fn run(shared: Shared, roles: Vec<Member>) -> Result<(), Error> {
    telemetry::logs(&shared.telemetry)?;
    let metrics = telemetry::metrics()?;
    limits::raise_open_files();
    shutdown::run(supervise(shared, metrics, roles))
}

async fn supervise(mut shared: Shared, metrics: PrometheusHandle, roles: Vec<Member>) -> Result<(), Error> {
    let mut stop = Stop::listen()?;
    // Before the stores are opened: a start that fails leaves them as they are.
    let (readiness, unfinished, admin) = serve_operators(&mut shared, &metrics)?;
    let upkeep = Upkeep::default();
    spawn(run_upkeep(metrics, upkeep.clone()));
    let longest = roles.iter().map(|role| role.config.drain_delay()).max();
    let delay = shared.admin.drain_delay.or(longest).unwrap_or_default();
    let start = |role: Member| {
        let process = Process {
            admin: shared.admin.admin_listen,
            role: shared.named.then_some(role.name),
            unfinished: unfinished.clone(),
            readiness: readiness.clone(),
            upkeep: upkeep.clone(),
            listen_flag: role.listen_flag,
        };
        role.config.start(process)
    };
    let mut running = tokio::select! {
        started = try_join_all(roles.into_iter().map(start)) => started?,
        signal = stop.requested() => {
            tracing::info!(signal = signal?, "stopped during the start");
            readiness.drain();
            admin.stop(false).await;
            return Ok(());
        }
    };
    readiness.open();
    let outcome = wait(&mut stop, &running).await?;
    readiness.drain();
    let delay = if stop.is_terminated() { delay } else { Duration::ZERO };
    let drained = async {
        drain(&mut running, Duration::from_secs(1)).await;
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

/// Drains the roles. The ends of the steps are multiples of `unit`.
async fn drain(running: &mut [Box<dyn Running>], unit: Duration) {
    let begin = Instant::now();
    for (step, end) in STEPS {
        let done = join_all(running.iter_mut().map(|role| role.drain(step)));
        if timeout_at(begin + unit * end, done).await.is_err() {
            tracing::warn!(?step, "a step of the drain did not finish in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    /// A role whose steps do not end.
    struct Hanging(Rc<RefCell<Vec<Step>>>);

    #[async_trait(?Send)]
    impl Running for Hanging {
        async fn drain(&mut self, step: Step) {
            self.0.borrow_mut().push(step);
            pending().await
        }
    }

    #[actix_web::test]
    async fn steps_that_hang_leave_the_next_ones_their_time_within_the_deadline() {
        let begun = Rc::default();
        drain(&mut [Box::new(Hanging(Rc::clone(&begun)))], Duration::from_millis(2)).await;
        assert_eq!(*begun.borrow(), STEPS.map(|(step, _)| step));
        let ends = STEPS.map(|(_, end)| Duration::from_secs(end.into()));
        assert!(ends.is_sorted() && ends[6] < shutdown::DRAIN_DEADLINE, "{ends:?}");
    }
}
