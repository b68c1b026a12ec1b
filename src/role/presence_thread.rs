//! Runs the presence service on a separate thread. Other parts call it over gRPC only. Started and ended by the roles
//! `serve` and `presence`.

use std::net::TcpListener;

use actix::Addr;
use actix_web::rt::spawn;
use presence::{Config, Error, Roster};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    admin::{Probe, not_ready_unless},
    heartbeat,
};

/// The running service.
pub struct PresenceThread {
    /// `None` after the stop.
    stop: Option<oneshot::Sender<()>>,
    roster: Addr<Roster>,
    ended: JoinHandle<()>,
}

impl PresenceThread {
    /// Starts the service on a listening socket.
    pub fn start(listener: TcpListener, config: Config) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            // Runs on the thread of the service.
            heartbeat::watch("presence");
            _ = stopped.await;
        };
        let (roster, end) = presence::start(listener, config, until);
        Self { stop: Some(stop), roster, ended: spawn(watch(end)) }
    }

    /// Probes whether the roster answers. For `/readyz`.
    pub fn probe(&self) -> Probe {
        let roster = self.roster.clone();
        Box::new(move || {
            let roster = roster.clone();
            Box::pin(async move { not_ready_unless(presence::answers(&roster).await) })
        })
    }

    /// Ends the service and waits for its end. Call it once.
    pub async fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the service has ended.
            _ = stop.send(());
            _ = (&mut self.ended).await;
        }
    }
}

/// Logs how the service ended.
async fn watch(end: oneshot::Receiver<Result<(), Error>>) {
    match end.await {
        Ok(Ok(())) => tracing::debug!("presence ended"),
        Ok(Err(error)) => tracing::error!(%error, "presence failed"),
        Err(_) => tracing::error!("the presence thread ended unexpectedly"),
    }
}
