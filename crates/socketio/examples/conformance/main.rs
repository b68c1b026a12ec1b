//! Servers for the official test suites and other external checks: the profiles `protocol`, `client` and
//! `eioc`, each on its own port. Run all with `cargo run -p socketio --example conformance`, one with `--
//! --profile eioc`.

mod client;
mod cluster;
mod conf;
mod eioc;
mod emit;
mod handshake;
mod main_namespace;
mod protocol;

use std::io::Write as _;

use clap::{Parser, ValueEnum};
use futures_util::future::try_join_all;

/// Workers per profile: two, so that the requests of one session are handled by different workers.
const WORKERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    All,
    Protocol,
    Client,
    Eioc,
}

#[derive(Debug, Parser)]
struct Args {
    /// Which servers to start.
    #[arg(long, value_enum, default_value_t = Profile::All)]
    profile: Profile,
    /// The address to listen on.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// The port of the profile `protocol`.
    #[arg(long, default_value_t = 3000)]
    protocol_port: u16,
    /// The port of the profile `client`.
    #[arg(long, default_value_t = 3210)]
    client_port: u16,
    /// The port of the profile `eioc`.
    #[arg(long, default_value_t = 3220)]
    eioc_port: u16,
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let wanted = |profile| args.profile == Profile::All || args.profile == profile;
    let mut servers = Vec::new();
    if wanted(Profile::Protocol) {
        servers.push(protocol::listen(&args.host, args.protocol_port)?);
        print_address("protocol", &args.host, args.protocol_port)?;
    }
    if wanted(Profile::Client) {
        servers.push(client::listen(&args.host, args.client_port)?);
        print_address("client", &args.host, args.client_port)?;
    }
    if wanted(Profile::Eioc) {
        servers.push(eioc::listen(&args.host, args.eioc_port)?);
        print_address("eioc", &args.host, args.eioc_port)?;
    }
    try_join_all(servers).await.map(drop)
}

fn print_address(name: &str, host: &str, port: u16) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{name} on http://{host}:{port}")
}
