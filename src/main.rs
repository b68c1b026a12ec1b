//! The `godzilla` binary: reads the command line and runs the one role or tool it names.

#![cfg_attr(not(feature = "mongodb"), allow(dead_code, reason = "parts of backends that are not built"))]

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

use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
};

use cli::Command;
use error::Error;
use storage::sqlite;
use tracing::Level;

/// The stack of the thread that runs the command, in bytes. A limit on the stack of a process (`ulimit -s`) applies to its first thread only,
/// and a small one would end the process without a message.
const STACK: usize = 4 << 20;

fn main() -> ExitCode {
    let started = thread::Builder::new().name("main".to_owned()).stack_size(STACK).spawn(start);
    match started.map(thread::JoinHandle::join) {
        Ok(Ok(status)) => status,
        // The panic hook has reported the panic.
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(error) => {
            telemetry::prefer_json(cli::is_json_requested(std::env::args_os(), std::env::vars_os()));
            no_thread(&error)
        }
    }
}

/// Reports that no thread can be started. The log thread does not run, so this thread writes the line itself. An error of this write cannot be
/// reported.
fn no_thread(error: &io::Error) -> ExitCode {
    let text = limits::no_thread(error);
    _ = write!(io::stderr(), "{}", telemetry::format_line(Level::ERROR, &text));
    ExitCode::FAILURE
}

fn start() -> ExitCode {
    telemetry::prefer_json(cli::is_json_requested(std::env::args_os(), std::env::vars_os()));
    let started = shutdown::unblock().and_then(|()| shutdown::ignore()).and_then(|()| telemetry::start());
    if let Err(error) = started {
        return no_thread(&error);
    }
    supervision::report_exit(|error| {
        telemetry::write_line(Level::ERROR, &limits::no_thread(error));
        telemetry::flush();
    });
    // The panic hook has reported a panic. Libraries panic when they cannot start a thread.
    let status = catch_unwind(AssertUnwindSafe(status)).unwrap_or_else(|_| {
        limits::not_ready_reason().iter().for_each(|text| telemetry::write_line(Level::ERROR, text));
        1
    });
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
        Command::Roles(roles) => limits::check(roles.needs())?,
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
        Command::Roles(roles) => roles.run(),
        Command::Seed(config) => seed::run(config),
        Command::Backup(config) => sqlite::backup::run(config),
        Command::Check(config) => sqlite::backup::check(&config),
        Command::Healthcheck(config) => healthcheck::run(&config),
        Command::Doctor { role, environment } => doctor::run(role.examine(&environment)),
    }
}
