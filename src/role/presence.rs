//! `godzilla presence`: the presence service. It stores nothing: after a restart chat nodes report their users again.

use std::net::{SocketAddr, TcpListener};

use async_trait::async_trait;

use crate::{
    config,
    error::Error,
    listener::listen,
    role::{
        harness::{self, Process, Role, Running, Shared, Step},
        presence_thread::PresenceThread,
    },
};

/// The role before its start.
pub struct Presence {
    listener: TcpListener,
    /// Where the service listens.
    pub address: SocketAddr,
    service: presence::Config,
}

/// Runs the role alone until a signal requests the end, then until calls in progress have their responses.
pub fn run(config: config::Presence) -> Result<(), Error> {
    let shared = Shared { admin: config.admin.clone(), telemetry: config.telemetry.clone(), named: false };
    harness::run(shared, async |_| Ok(vec![Box::new(Presence::open(config, "--listen")?) as _]))
}

impl Presence {
    /// Listens on the address that `flag` sets.
    pub fn open(mut config: config::Presence, flag: &'static str) -> Result<Self, Error> {
        let listener = listen(flag, &mut config.listen)?;
        if !config.listen.ip().is_loopback() {
            tracing::warn!(address = %config.listen, "this address is reachable from other machines: restrict it to chat nodes, because any client can report users as online");
        }
        config.service.deployment = config.deployment.deployment.name().to_owned();
        Ok(Self { listener, address: config.listen, service: config.service })
    }
}

#[async_trait(?Send)]
impl Role for Presence {
    fn name(&self) -> &'static str {
        "presence"
    }

    fn descriptors(&self) -> u64 {
        0
    }

    async fn start(self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error> {
        let service = PresenceThread::start(self.listener, self.service);
        process.add_probe("roster", service.probe());
        tracing::info!(address = %self.address, "presence listens");
        Ok(Box::new(service))
    }
}

#[async_trait(?Send)]
impl Running for PresenceThread {
    /// Chat nodes of this process report the disconnects of their users before the last step.
    async fn drain(&mut self, step: Step) {
        if step == Step::End {
            self.stop().await;
        }
    }
}
