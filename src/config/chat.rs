//! The flags of the role `chat`.

use std::net::SocketAddr;

use clap::Args;

use super::{ADMIN, LISTEN, Sockets, check_apart, check_limits, shared};
use crate::{admin, telemetry};

/// Configuration of `chat`.
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
    // Messages and rooms.
    #[command(flatten)]
    pub mongo: shared::Mongo,
    // Sessions, the stream of events, and the table of nodes.
    #[command(flatten)]
    pub redis: shared::Redis,
    // Prefix of the keys and collections.
    #[command(flatten)]
    pub deployment: shared::Deployment,
    // Key of signed identities.
    #[command(flatten)]
    pub secret: shared::Secret,
    // Limits of a connection.
    #[command(flatten)]
    pub sockets: Sockets,
    // Limits of messages and rooms.
    #[command(flatten, next_help_heading = "Chat")]
    pub chat: ::chat::Config,
    // Operator listener.
    #[command(flatten)]
    pub admin: admin::Config,
    // Logs.
    #[command(flatten)]
    pub telemetry: telemetry::Config,
}

impl Chat {
    /// Refuses combinations that no single part can detect. The text names the flags. The role reports missing values.
    pub fn check(&self) -> Result<(), String> {
        check_apart(&[(LISTEN, self.listen), (ADMIN, self.admin.admin_listen)])?;
        check_limits(&self.sockets, &self.chat)
    }

    /// The address at which gateways reach this node.
    ///
    /// # Errors
    /// When the value is not a valid address. The text names the flag.
    pub fn address(&self) -> Result<gateway::Backend, String> {
        let address = self.advertise.clone().unwrap_or_else(|| match self.listen.ip().is_unspecified() {
            true => format!("{}:{}", ::chat::config::host(), self.listen.port()),
            false => self.listen.to_string(),
        });
        let refused = "the value of --advertise (GODZILLA_ADVERTISE) is refused: expected HOST:PORT";
        format!("http://{address}").parse().map_err(|_| refused.to_owned())
    }
}
