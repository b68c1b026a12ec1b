//! The `godzilla` binary: reads the command line and runs the one role or tool it names.

#![cfg_attr(not(feature = "mongodb"), allow(dead_code, reason = "parts of the roles that are not built"))]

mod admin;
mod cli;
mod config;
mod descriptors;
mod doctor;
mod entropy;
mod error;
mod healthcheck;
mod heartbeat;
mod http;
mod limits;
mod listener;
mod memory;
#[cfg(feature = "mongodb")]
mod mongo;
mod nodes;
mod output;
mod role;
mod room_references;
mod secret;
mod seed;
mod shutdown;
mod stores;
mod supervision;
mod systemd;
mod telemetry;
mod user_lookup;

use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use cli::Command;
use error::Error;
use limits::Needs;
use tracing::Level;

fn main() -> ExitCode {
    telemetry::prefer_json(cli::is_json_requested(std::env::args_os(), std::env::vars_os()));
    let started = shutdown::unblock().and_then(|()| shutdown::ignore()).and_then(|()| telemetry::start());
    if let Err(error) = started {
        // The log thread does not run, so this thread writes the line itself. An error of this write cannot be
        // reported.
        _ = write!(
            io::stderr(),
            "{}",
            telemetry::format_line(Level::ERROR, &limits::no_thread(&error).to_string())
        );
        return ExitCode::FAILURE;
    }
    // The panic hook has reported a panic.
    let status = catch_unwind(AssertUnwindSafe(status)).unwrap_or(1);
    telemetry::flush();
    ExitCode::from(status)
}

/// Runs the command that the command line names, and returns the exit status.
fn status() -> u8 {
    let outcome = match cli::read(std::env::args_os(), std::env::vars_os()).and_then(prepare).and_then(run) {
        Err(Error::Help(text)) => {
            output::show(text).map_err(|error| Error::part("standard output cannot be written", error))
        }
        outcome => outcome,
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            telemetry::write_line(Level::ERROR, &error.to_string());
            error.exit_code()
        }
    }
}

/// Prepares the process for `command`: checks the limits of the system, starts the threads of the allocator and the
/// connection to systemd.
fn prepare(command: Command) -> Result<Command, Error> {
    match &command {
        Command::Serve(_) => limits::check(Needs { store: true, roles: 1 })?,
        Command::Gateway(_) | Command::Accounts(_) | Command::Chat(_) | Command::Presence(_) => {
            limits::check(Needs { store: false, roles: 1 })?;
        }
        Command::Run(config) => limits::check(Needs { store: false, roles: config.roles() })?,
        Command::Doctor { .. } | Command::Healthcheck(_) => return Ok(command),
        _ => return Ok(prepared(command)),
    }
    listener::accept_passed(std::env::vars_os());
    Ok(prepared(command))
}

/// Prepares the process for a role or a tool that uses stores.
fn prepared(command: Command) -> Command {
    if let Err(error) = memory::configure() {
        telemetry::write_line(Level::WARN, &format!("freed memory is not returned to the system: {error}"));
    }
    if let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())
        && let Err(error) = systemd::start(&address)
    {
        telemetry::write_line(Level::WARN, &format!("systemd cannot be notified: {error}"));
    }
    command
}

fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Serve(config) => role::serve::run(*config),
        Command::Gateway(config) => role::gateway::run(*config),
        #[cfg(feature = "mongodb")]
        Command::Accounts(config) => role::accounts::run(*config),
        #[cfg(feature = "mongodb")]
        Command::Chat(config) => role::chat::run(*config),
        Command::Presence(config) => role::presence::run(*config),
        #[cfg(feature = "mongodb")]
        Command::Run(config) => role::run::run(*config),
        #[cfg(not(feature = "mongodb"))]
        Command::Accounts(_) | Command::Chat(_) | Command::Run(_) => {
            Err(Error::Config(error::WITHOUT_MONGODB.to_owned()))
        }
        Command::Seed(config) => seed::run(config),
        Command::Backup(config) => stores::backup::run(config),
        Command::Check(config) => stores::check::run(config),
        Command::Healthcheck(config) => healthcheck::run(&config),
        Command::Doctor { role, environment } => doctor::run(&role, &environment),
    }
}
