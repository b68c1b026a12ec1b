//! The load generator: thousands of Socket.IO clients in one process, each delivery counted. Reads the command line, runs
//! one scenario, prints its report, and ends non-zero when anything is missing.

mod error;
mod http;
mod ledger;
mod lobby;
mod loud;
mod notes;
mod people;
mod process;
mod report;
mod slow;
mod socket;
mod tape;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load for a Godzilla server, and what became of every message.
#[derive(Debug, Parser)]
#[command(name = "bench", version, about)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

/// What to measure.
#[derive(Debug, Subcommand)]
enum Scenario {
    /// Many clients in the lobby, a few of them talking: does everybody hear everything once and in order?
    Lobby(lobby::Args),
    /// Readers among as many that read nothing: are those dropped in time, and do the others notice?
    Slow(slow::Args),
    /// Quiet rooms, alone and beside one loud room: do their acks stay as fast as they were?
    Loud(loud::Args),
}

#[expect(clippy::print_stderr, reason = "a tool of the command line")]
fn main() -> ExitCode {
    let scenario = Cli::parse().scenario;
    // One thread: the generator must leave the other core to the server it measures.
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
