//! The flags of the role `chat`.

use std::net::SocketAddr;

use clap::Args;

use super::{ADMIN, LISTEN, Sockets, check_apart, check_limits, shared};
use crate::{admin, telemetry};

/// What `chat` can be told.
#[derive(Debug, Clone, Args)]
pub struct Chat {
    /// Where the node listens (plain HTTP, for gateways: a private network only)
    #[arg(long, env = "GODZILLA_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:3000",
          value_parser = proto::address::listen)]
    #[arg(help_heading = "Chat")]
    pub listen: SocketAddr,
    /// Where gateways reach this node; the address it listens on when absent, with the host's name for 0.0.0.0
    #[arg(long, env = "GODZILLA_ADVERTISE", value_name = "HOST:PORT", help_heading = "Chat")]
    pub advertise: Option<String>,
    // What people said.
    #[command(flatten)]
    pub mongo: shared::Mongo,
    // Who is logged in, what other nodes say, and where they are.
    #[command(flatten)]
    pub redis: shared::Redis,
    // Whose keys and collections those are.
    #[command(flatten)]
    pub deployment: shared::Deployment,
    // Whom it believes.
    #[command(flatten)]
    pub secret: shared::Secret,
    // Limits of one connection.
    #[command(flatten)]
    pub sockets: Sockets,
    // Limits of what people say.
    #[command(flatten, next_help_heading = "Chat")]
    pub chat: ::chat::Config,
    // Where operators ask.
    #[command(flatten)]
    pub admin: admin::Config,
    // What is logged.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

impl Chat {
    /// Refuses what each part alone cannot see to be wrong; the text names the flags. What is missing the role says.
    pub fn check(&self) -> Result<(), String> {
        check_apart(&[(LISTEN, self.listen), (ADMIN, self.admin.admin_listen)])?;
        check_limits(&self.sockets, &self.chat)
    }

    /// Where gateways reach this node.
    ///
    /// # Errors
    /// When that is no address; the text names the flag.
    pub fn address(&self) -> Result<gateway::Backend, String> {
        let address = self.advertise.clone().unwrap_or_else(|| match self.listen.ip().is_unspecified() {
            true => format!("{}:{}", ::chat::config::host(), self.listen.port()),
            false => self.listen.to_string(),
        });
        let refused = "the value of --advertise (GODZILLA_ADVERTISE) is refused: expected HOST:PORT";
        format!("http://{address}").parse().map_err(|_| refused.to_owned())
    }
}
