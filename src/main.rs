//! The `godzilla` binary: reads the command line and runs the one role or tool it names.

mod admin;
mod cli;
mod config;
mod error;
mod healthcheck;
mod http;
mod listener;
mod memory;
mod mongo;
mod nodes;
mod registered;
mod role;
mod secret;
mod seed;
mod shutdown;
mod stores;
mod telemetry;

use std::{io::Write, process::ExitCode};

use cli::Command;
use error::Error;

fn main() -> ExitCode {
    if let Err(error) = memory::give_back() {
        _ = writeln!(std::io::stderr(), "godzilla: freed memory is kept: {error}");
    }
    match cli::read(std::env::args_os(), std::env::vars_os()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Help(text)) => {
            _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            _ = writeln!(std::io::stderr(), "godzilla: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Serve(config) => role::serve::run(*config),
        Command::Gateway(config) => role::gateway::run(*config),
        Command::Accounts(config) => role::accounts::run(*config),
        Command::Chat(config) => role::chat::run(*config),
        Command::Presence(config) => role::presence::run(*config),
        Command::Seed(config) => seed::run(config),
        Command::Healthcheck(config) => healthcheck::run(&config),
    }
}
