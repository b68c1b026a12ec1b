//! The gateway's flags, checked as they are parsed: a [`Config`] that exists is a valid one. Filled by the binary's cli,
//! read by the rest of this crate.

use std::net::SocketAddr;

use crate::{client::Network, origin::Origin};

/// What the gateway can be told.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Gateway")]
pub struct Config {
    /// Address for HTTP and Socket.IO; use 0.0.0.0:8080 to be reachable from other machines
    #[arg(long, env = "GODZILLA_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Origin whose pages may connect besides our own, such as https://app.example.org; repeat or separate by commas.
    /// There is no wildcard
    #[arg(long, env = "GODZILLA_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origin: Vec<Origin>,

    /// Reverse proxy whose X-Forwarded-For and X-Forwarded-Proto are believed, such as 10.0.0.7 or 10.0.0.0/8; repeat
    /// or separate by commas. Everybody else's are removed
    #[arg(long, env = "GODZILLA_TRUSTED_PROXY", value_name = "IP[/BITS]", value_delimiter = ',')]
    pub trusted_proxy: Vec<Network>,

    /// Logins per second and client address (IPv6: per /64)
    #[arg(long, env = "GODZILLA_LOGIN_RATE", value_name = "PER_SECOND", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub login_rate: u32,

    /// Logins at once per client address, before the rate counts
    #[arg(long, env = "GODZILLA_LOGIN_BURST", value_name = "COUNT", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub login_burst: u32,

    /// KiB of large answers that may wait for clients to read them, over all clients; one more is answered 503
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
/// Less than the largest single answer would refuse it for ever.
fn unread(text: &str) -> Result<usize, &'static str> {
    let kib = text.parse().ok().filter(|kib| (1_024..=16_777_216).contains(kib));
    kib.ok_or("expected KiB, from 1024 to 16777216")
}
