//! `godzilla presence`: the presence service in a separate process. It stores nothing: after a restart chat nodes
//! report their users again.

use actix_web::rt::spawn;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    admin::{self, Readiness},
    config::Presence,
    descriptors,
    error::Error,
    listener::listen,
    role::{presence_thread::PresenceThread, upkeep},
    shutdown::{self, Stop},
    supervision::essential,
    telemetry,
};

/// Runs until a signal requests the end, then until calls in progress have their responses.
pub fn run(config: Presence) -> Result<(), Error> {
    telemetry::logs(&config.telemetry)?;
    let metrics = telemetry::metrics()?;
    descriptors::raise();
    shutdown::run(presence(config, metrics))
}

async fn presence(mut config: Presence, metrics: PrometheusHandle) -> Result<(), Error> {
    let mut stop = Stop::listen()?;
    let listener = listen("--listen", &mut config.listen)?;
    let operators = listen("--admin-listen", &mut config.admin.admin_listen)?;
    if !config.listen.ip().is_loopback() {
        tracing::warn!(address = %config.listen, "this address is reachable from other machines: restrict it to chat nodes, because any client can report users as online");
    }
    let readiness = Readiness::new(Vec::new());
    let (server, admin) = admin::start(operators, readiness.clone(), metrics.clone())?;
    spawn(essential("admin server", server));
    spawn(upkeep(metrics, || ()));
    config.service.deployment = config.deployment.deployment.name().to_owned();
    let service = PresenceThread::start(listener, config.service);
    readiness.add("roster", service.probe());
    readiness.open();
    tracing::info!(signal = stop.requested().await?, "draining");
    let drained = async {
        readiness.drain();
        service.drain().await;
        admin.stop(false).await;
    };
    stop.drain(drained).await;
    tracing::info!("stopped");
    Ok(())
}
