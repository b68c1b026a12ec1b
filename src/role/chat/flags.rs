//! The flags of the role `chat`, and its row in the table of roles.

use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use clap::Args;
use cluster::NodeLease;

use crate::{
    config::{Sockets, check_limits, shared},
    error::Error,
    limits,
    role::{
        definition::{Definition, Requirements, RoleConfig},
        harness::{Process, Running},
    },
};

/// The row of the table of roles.
pub const ROLE: Definition = Definition::new::<Config>(
    "chat",
    "Run one chat node: rooms, sockets and history, on MongoDB and Redis, behind gateways; as many as are needed",
    EXAMPLES,
);

const EXAMPLES: &str = "\
Examples:
  godzilla chat --secret-file key --redis-url redis://127.0.0.1:6379/0 \\
    --mongo-uri 'mongodb://127.0.0.1/godzilla?replicaSet=rs0'
  godzilla chat --listen 0.0.0.0:3000 --node chat-1 --advertise 10.0.0.6:3000 \\
    --mongo-uri-file mongo --redis-url-file redis --secret-file key --presence-url http://10.0.0.5:50051
Every node has a name of its own, by which gateways find the sockets that are on it. It starts without MongoDB and Redis;
/readyz on the admin address names the stores that it waits for.";

/// The flags.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Config {
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
    // Sessions, the stream of events, the table of nodes, and the key of signed identities.
    #[command(flatten)]
    pub cluster: shared::Cluster,
    // Limits of a connection.
    #[command(flatten)]
    pub sockets: Sockets,
    // Limits of messages and rooms.
    #[command(flatten, next_help_heading = "Chat")]
    pub chat: ::chat::Config,
}

#[async_trait(?Send)]
impl RoleConfig for Config {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn set_listen(&mut self, address: SocketAddr) {
        self.listen = address;
    }

    fn check(&self) -> Result<(), String> {
        NodeLease::check_name(&self.chat.node_name())?;
        self.address()?;
        ::chat::config::check_presence_url(&self.chat.presence_url)?;
        check_limits(&self.sockets, &self.chat)
    }

    fn fit_memory(&mut self) {
        limits::fit(&mut self.sockets.queued_bytes);
    }

    fn requirements(&self) -> Requirements<'_> {
        Requirements { cluster: Some(&self.cluster), mongo: Some(&self.mongo) }
    }

    fn set_neighbour(&mut self, role: &str, url: &str) {
        if role == "presence" {
            self.chat.presence_url = url.to_owned();
        }
    }

    async fn start(self: Box<Self>, process: Process) -> Result<Box<dyn Running>, Error> {
        Ok(Box::new(super::start(*self, process).await?))
    }
}

impl Config {
    /// The address at which gateways reach this node.
    ///
    /// # Errors
    /// When the value is not a valid address. The text names the flag.
    pub fn address(&self) -> Result<cluster::Backend, String> {
        let refused = |why: &str| format!("the value of --advertise (GODZILLA_ADVERTISE) is refused: {why}");
        if self.advertise.as_deref().is_some_and(is_unreachable) {
            return Err(refused(
                "gateways cannot connect to 0.0.0.0, [::], a multicast or broadcast address, or port 0; give an address of this node",
            ));
        }
        let address = self.advertise.clone().unwrap_or_else(|| match self.listen.ip().is_unspecified() {
            true => format!("{}:{}", ::chat::config::host(), self.listen.port()),
            false => self.listen.to_string(),
        });
        format!("http://{address}").parse().map_err(|_| refused("expected HOST:PORT"))
    }
}

/// Whether no client in any network can connect to this `HOST:PORT`.
fn is_unreachable(advertised: &str) -> bool {
    let has_port_0 = advertised.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(0_u16));
    has_port_0
        || advertised.parse::<SocketAddr>().is_ok_and(|address| match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
        })
}

#[cfg(test)]
mod tests {
    use cluster::NodeLease;

    use super::is_unreachable;

    #[test]
    fn addresses_to_which_no_client_connects_are_refused() {
        for wrong in [
            "0.0.0.0:3000",
            "[::]:3000",
            "[::ffff:0.0.0.0]:3000",
            "224.0.0.1:3000",
            "[ff02::1]:3000",
            "255.255.255.255:3000",
            "chat-0:0",
        ] {
            assert!(is_unreachable(wrong), "{wrong}");
        }
        for right in ["127.0.0.1:3000", "10.0.0.7:3000", "[::1]:3000", "chat-0.chat:3000", "chat-0", ""] {
            assert!(!is_unreachable(right), "{right}");
        }
    }

    #[test]
    fn every_host_name_yields_a_valid_node_name() {
        let long = "a-pod-with-a-very-long-name-".repeat(3);
        let hosts = [
            "chat-1",
            "chat-1.eu.example.com",
            "my_host",
            &format!("{long}1"),
            &format!("{long}2.example.com"),
            "",
            ".",
            "h\u{f6}st",
        ];
        for host in hosts {
            let name = chat::config::node_of(host);
            assert!(NodeLease::check_name(&name).is_ok(), "{host}: {name}");
        }
        assert_eq!(chat::config::node_of("chat-1"), "chat-1");
        assert_eq!(chat::config::node_of("chat-1.eu.example.com"), "chat-1");
        assert_ne!(chat::config::node_of(&format!("{long}1")), chat::config::node_of(&format!("{long}2")));
    }
}
