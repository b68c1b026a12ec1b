//! The running presence service: on a thread of its own, spoken to over gRPC only. Started and ended by the roles `serve` and
//! `presence`.

use std::net::TcpListener;

use actix_web::rt::spawn;
use presence::{Config, Error};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::heartbeat;

/// The running service.
pub struct PresenceThread {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl PresenceThread {
    /// Starts it on a socket that listens already.
    pub fn start(listener: TcpListener, config: Config) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            // Runs on the thread of the service.
            heartbeat::watch("presence");
            _ = stopped.await;
        };
        let (_roster, end) = presence::start(listener, config, until);
        Self { stop, ended: spawn(watch(end)) }
    }

    /// Resolves when the service has ended without having been asked to; the log says why.
    pub async fn ended(&mut self) {
        _ = (&mut self.ended).await;
    }

    /// Asks it to end and waits until it has.
    pub async fn drain(self) {
        _ = self.stop.send(());
        _ = self.ended.await;
    }
}

/// Says how the service ended.
async fn watch(end: oneshot::Receiver<Result<(), Error>>) {
    match end.await {
        Ok(Ok(())) => tracing::debug!("presence ended"),
        Ok(Err(error)) => tracing::error!(%error, "presence failed"),
        Err(_) => tracing::error!("the thread of presence died"),
    }
}
