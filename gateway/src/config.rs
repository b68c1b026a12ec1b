//! The settings of the gateway, validated by the command line parser: every [`Config`] is valid. The binary flattens it
//! into its command line.

use std::{net::SocketAddr, time::Duration};

use crate::{network::Network, origin::Origin};

/// The settings of the gateway.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Gateway")]
pub struct Config {
    /// Address for HTTP and Socket.IO; use 0.0.0.0:8080 to be reachable from other machines
    #[arg(long, env = "GODZILLA_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8080",
          value_parser = proto::address::listen)]
    pub listen: SocketAddr,

    /// Origin whose pages may connect besides our own, such as https://app.example.org or capacitor://localhost; repeat or
    /// separate by commas. There is no wildcard
    #[arg(long, env = "GODZILLA_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origin: Vec<Origin>,

    /// Let pages of the origins null and file:// connect (some hybrid apps). Every site can make such a page, so cookies
    /// are ignored in their requests: they authenticate by a token alone
    #[arg(long, env = "GODZILLA_ALLOW_OPAQUE_ORIGIN", value_parser = clap::builder::BoolishValueParser::new())]
    pub allow_opaque_origin: bool,

    /// Let native apps, scripts and own pages open a connection without a cookie or Bearer token, and authenticate by auth: {token}
    /// in CONNECT within --connect-timeout. Without it such a handshake is refused with 401
    #[arg(long, env = "GODZILLA_ALLOW_TOKEN_CLIENTS", value_parser = clap::builder::BoolishValueParser::new())]
    pub allow_token_clients: bool,

    /// Reverse proxy that may report the client's address, scheme and host (X-Forwarded-*, Forwarded, X-Real-IP), such as
    /// 10.0.0.7 or 10.0.0.0/8; repeat or separate by commas. These headers of all other peers are ignored
    #[arg(long, env = "GODZILLA_TRUSTED_PROXY", value_name = "IP[/BITS]", value_delimiter = ',')]
    pub trusted_proxy: Vec<Network>,

    /// Seconds that a connection may be idle between two requests. More than what a load balancer in front keeps (60 for
    /// AWS and nginx, 600 for Google), else it sends a request into a connection that is being closed
    #[arg(long, env = "GODZILLA_KEEP_ALIVE", value_name = "SECONDS", default_value_t = 75,
          value_parser = clap::value_parser!(u32).range(5..=3_600))]
    pub keep_alive: u32,

    /// Logins per second and client address (IPv6: per /64), and as many registrations
    #[arg(long, env = "GODZILLA_LOGIN_RATE", value_name = "PER_SECOND", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub login_rate: u32,

    /// Logins at once per client address, before the rate counts, and as many registrations
    #[arg(long, env = "GODZILLA_LOGIN_BURST", value_name = "COUNT", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub login_burst: u32,

    /// KiB of large answers that may wait for clients to read them, over all clients, an eighth of it for one user and half of
    /// it for one client address; one more is answered 503
    #[arg(long, env = "GODZILLA_UNREAD_ANSWERS", value_name = "KIB", default_value_t = 65_536,
          value_parser = unread)]
    pub unread_answers: usize,

    /// Largest HTTP request body of any route, in bytes; a route may refuse less
    #[arg(long, env = "GODZILLA_BODY_LIMIT", value_name = "BYTES", default_value_t = 65_536,
          value_parser = clap::value_parser!(u32).range(1_024..=1_048_576))]
    pub body_limit: u32,

    /// Seconds in which a request body must have arrived
    #[arg(long, env = "GODZILLA_BODY_TIMEOUT", value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=120))]
    pub body_timeout: u32,

    /// Seconds in which a request head must have arrived
    #[arg(long, env = "GODZILLA_HEAD_TIMEOUT", value_name = "SECONDS", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=60))]
    pub head_timeout: u32,
}

impl Config {
    /// The largest request body, in bytes.
    pub(crate) fn body_bytes(&self) -> usize {
        usize::try_from(self.body_limit).unwrap_or(usize::MAX)
    }

    /// The time in which a request body must have arrived.
    pub(crate) fn body_time(&self) -> Duration {
        Duration::from_secs(self.body_timeout.into())
    }
}

/// Parses the budget, in KiB. A budget smaller than the largest single response would refuse that response permanently.
fn unread(text: &str) -> Result<usize, &'static str> {
    let kib = text.parse().ok().filter(|kib| (1_024..=16_777_216).contains(kib));
    kib.ok_or("expected KiB, from 1024 to 16777216")
}
