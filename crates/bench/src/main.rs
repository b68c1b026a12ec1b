//! The load generator: thousands of Socket.IO clients in one process, with every delivery counted. Runs one
//! scenario, prints its report, and exits non-zero if a check fails.

mod connects;
mod delivery;
mod lobby;
mod loud;
mod server;
mod socket;
mod users;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Why a scenario could not run.
type Error = Box<dyn std::error::Error>;

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
    /// The same clients connect to this server and to a peer: how many connects per second has each?
    Connects(connects::Args),
    /// Many clients connect, wait and receive messages in the lobby: how long do connects take, what does an idle client cost, and is
    /// every message delivered exactly once and in order?
    Lobby(lobby::Args),
    /// Quiet rooms with and without one loud room: do their acks stay as fast?
    Loud(loud::Args),
}

#[expect(clippy::print_stderr, reason = "a tool of the command line")]
fn main() -> ExitCode {
    let scenario = Cli::parse().scenario;
    let run = || -> Result<Vec<String>, Error> {
        server::allow_many_files()?;
        // One thread, to leave the other core to the server.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        tokio::task::LocalSet::new().block_on(&runtime, async {
            match scenario {
                Scenario::Connects(args) => connects::run(args).await,
                Scenario::Lobby(args) => lobby::run(args).await,
                Scenario::Loud(args) => loud::run(args).await,
            }
        })
    };
    match run() {
        Ok(failures) if failures.is_empty() => return ExitCode::SUCCESS,
        Ok(failures) => eprintln!("bench: failed: {}", failures.join(", ")),
        Err(error) => eprintln!("bench: {error}"),
    }
    ExitCode::FAILURE
}

/// The median, the 99th percentile and the maximum of sorted microseconds, as text.
fn quantiles(sorted: &[u32]) -> String {
    let at = |share: f64| f64::from(quantile(sorted, share)) / 1000.0;
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0))
}

/// The value below which this share of the sorted values lies. 0 without values.
fn quantile(sorted: &[u32], share: f64) -> u32 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_from_the_samples() {
        assert_eq!(quantiles(&[]), "p50 0.0 ms, p99 0.0 ms, max 0.0 ms");
        let thousand: Vec<u32> = (0..1000).map(|ms| ms * 1000).collect();
        assert_eq!(quantiles(&thousand), "p50 500.0 ms, p99 990.0 ms, max 999.0 ms");
    }
}
