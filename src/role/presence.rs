//! `godzilla presence`: the presence service. It stores nothing: after a restart chat nodes report their users again.

use std::net::SocketAddr;

use async_trait::async_trait;
use clap::Args;

use crate::{
    error::Error,
    role::{
        definition::{Definition, RoleConfig},
        harness::{Process, Running, Step},
        presence_thread::PresenceThread,
    },
};

/// The row of the table of roles.
pub const ROLE: Definition = Definition::new::<Config>(
    "presence",
    "Run the presence service alone: who is online and who is typing, over gRPC",
    EXAMPLES,
);

const EXAMPLES: &str = "\
Examples:
  godzilla presence                                 gRPC on 127.0.0.1:50051, admin on 127.0.0.1:9100
  godzilla presence --listen 10.0.0.5:50051 --admin-listen 10.0.0.5:9100 --log-format json
  godzilla healthcheck --admin-listen 10.0.0.5:9100";

/// The flags.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Config {
    /// Where the service listens (gRPC, plain text, and every client that reaches it can report users as online: a private network only)
    #[arg(long, env = "GODZILLA_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:50051",
          value_parser = proto::address::listen)]
    #[arg(help_heading = "Presence")]
    pub listen: SocketAddr,
    // Online users.
    #[command(flatten, next_help_heading = "Presence")]
    pub service: presence::Config,
}

#[async_trait(?Send)]
impl RoleConfig for Config {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn set_listen(&mut self, address: SocketAddr) {
        self.listen = address;
    }

    async fn start(mut self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error> {
        let listener = process.listen(&mut self.listen)?;
        if !self.listen.ip().is_loopback() {
            tracing::warn!(address = %self.listen, "this address is reachable from other machines: restrict it to chat nodes, because any client can report users as online");
        }
        let service = PresenceThread::start(listener, self.service);
        tracing::info!(address = %self.listen, "presence listens");
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
