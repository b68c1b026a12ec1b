//! The load generator: thousands of Socket.IO clients in one process, with every delivery counted. Runs one
//! scenario, prints its report, and exits non-zero if a check fails.

mod delivery;
mod error;
mod http;
mod lobby;
mod loud;
mod process;
mod recorder;
mod report;
mod slow;
mod socket;
mod stats;
mod users;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load generator for a Godzilla server that checks every delivery
#[derive(Debug, Parser)]
#[command(name = "bench", version, about)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

/// The scenario.
#[derive(Debug, Subcommand)]
enum Scenario {
    /// Many clients in the lobby, a few of them send: is every message delivered exactly once and in order?
    Lobby(lobby::Args),
    /// As many blocked readers as active ones: are the blocked ones closed in time, and are the others
    /// affected?
    Slow(slow::Args),
    /// Quiet rooms with and without one loud room: do their acks stay as fast?
    Loud(loud::Args),
}

#[expect(clippy::print_stderr, reason = "a tool of the command line")]
fn main() -> ExitCode {
    let scenario = Cli::parse().scenario;
    // One thread, to leave the other core to the server.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    let run = async {
        match scenario {
            Scenario::Lobby(args) => lobby::run(args).await.map(|report| report.print()),
            Scenario::Slow(args) => slow::run(args).await.map(|report| report.print()),
            Scenario::Loud(args) => loud::run(args).await.map(|report| report.print()),
        }
    };
    match tokio::task::LocalSet::new().block_on(&runtime, run) {
        Ok(verdict) => verdict,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
