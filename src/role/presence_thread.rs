//! Runs the presence service on a separate thread. Other parts call it over gRPC only. Started and ended by the roles
//! `serve` and `presence`.

use std::net::TcpListener;

use actix_web::rt::spawn;
use presence::{Config, Error};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::heartbeat;

/// The running service.
pub struct PresenceThread {
    /// `None` after the stop.
    stop: Option<oneshot::Sender<()>>,
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
        let end = presence::start(listener, config, until);
        Self { stop: Some(stop), ended: spawn(watch(end)) }
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
