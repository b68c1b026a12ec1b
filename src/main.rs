//! The `godzilla` binary: reads the command line and runs the one role or tool it names.

#![cfg_attr(not(feature = "mongodb"), allow(dead_code, reason = "parts of backends that are not built"))]

mod admin;
mod cli;
mod config;
mod doctor;
mod error;
mod healthcheck;
mod heartbeat;
mod http;
mod limits;
mod listener;
mod memory;
mod output;
mod role;
mod secret;
mod seed;
mod shutdown;
mod storage;
mod supervision;
mod systemd;
mod telemetry;
mod user_lookup;

use std::process::ExitCode;

use cli::Command;
use error::Error;
use storage::sqlite;
use tracing::Level;

fn main() -> ExitCode {
    if telemetry::start().is_err() {
        // Without a descriptor for the log nothing can be reported.
        return ExitCode::FAILURE;
    }
    let outcome = cli::read(std::env::args_os().collect(), &std::env::vars_os().collect::<Vec<_>>());
    let status = match outcome.and_then(run) {
        Ok(()) => 0,
        Err(Error::Help(text)) => u8::from(output::show(&text).is_err()),
        Err(error) => {
            telemetry::write_line(Level::ERROR, &error.to_string());
            error.exit_code()
        }
    };
    telemetry::flush();
    // Threads that are blocked end with the process.
    ExitCode::from(status)
}

fn run(command: Command) -> Result<(), Error> {
    if let Err(error) = memory::configure() {
        telemetry::write_line(Level::WARN, &format!("freed memory is not returned to the system: {error}"));
    }
    match command {
        Command::Roles(roles) => roles.run(),
        Command::Seed(config) => seed::run(config),
        Command::Backup(config) => sqlite::backup::run(config),
        Command::Check(config) => sqlite::backup::check(&config),
        Command::Healthcheck(config) => healthcheck::run(&config),
        Command::Doctor { role } => doctor::run(&role),
    }
}
