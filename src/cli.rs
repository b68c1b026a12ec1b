//! The command line: selects the role or tool to run, and its configuration. Called by `main`. Every refusal names the
//! key and never the value, because a misplaced value can be a secret.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
};

use clap::{
    Arg, CommandFactory, FromArgMatches, Parser, Subcommand,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};
use tracing::Level;

use crate::{
    config::{Backup, Check, Healthcheck, Seed},
    error::Error,
    role::RoleSet,
    telemetry,
};

/// Text after the help of `godzilla`.
const AFTER_HELP: &str = "\
`godzilla` alone is `godzilla serve`. Its flags, their defaults and their environment variables:
  godzilla serve --help";

/// Text after the help of `doctor`.
const DOCTOR: &str = "\
Examples:
  godzilla doctor                                   what `godzilla serve` would run with
  godzilla doctor chat --secret-file key --redis-url redis://127.0.0.1:6379/0 \\
    --mongo-uri 'mongodb://127.0.0.1/godzilla?replicaSet=rs0'
It takes the flags and variables of the role, starts nothing and changes nothing.";

/// Text after the help of `backup`.
const BACKUP: &str = "\
Examples:
  godzilla backup /backups/monday                   copies ./data
  godzilla backup --data-dir /var/lib/godzilla /backups/monday
The copy is checked before it gets its name. It has no sessions: after a restore all users log in again. To restore, stop the
server, move its data directory away, copy the backup to its place, start the server.";

/// A self-hosted real-time chat backend for people who already use Socket.IO clients.
#[derive(Debug, Parser)]
#[command(name = "godzilla", version, about, after_help = AFTER_HELP, subcommand_required = true)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The roles and tools of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    // The commands of the table of roles, and `run`.
    #[command(flatten)]
    Roles(RoleSet),
    /// Fill an empty store with sample users and messages
    Seed(Seed),
    /// Copy the embedded store into a directory, also while a server uses it
    #[command(after_help = BACKUP)]
    Backup(Backup),
    /// Check the embedded store and count its rows: exit status 0 or 1
    Check(Check),
    /// Ask a running server whether it is ready: exit status 0 or 1
    Healthcheck(Healthcheck),
    /// Check the configuration of a role without starting it: exit status 0 or 1
    #[command(after_help = DOCTOR, disable_help_subcommand = true)]
    Doctor {
        /// The role
        #[command(subcommand)]
        role: RoleSet,
    },
}

/// Prefix of the environment variables of this program.
const PREFIX: &str = "GODZILLA_";

/// Parses `args` (with the program's name) and `variables`. White space around the value of a variable does not count, and a variable
/// without another character counts as absent: compose files and charts set a variable to the empty string when its value is not set,
/// and a ConfigMap that is made from a file ends in a line break.
pub fn read(args: Vec<OsString>, variables: &[(OsString, OsString)]) -> Result<Command, Error> {
    let (root, args) = (definition(), with_command(args));
    let at = if args.get(1).is_some_and(|arg| arg == "doctor") { 2 } else { 1 };
    let parent = if at == 2 { root.find_subcommand("doctor") } else { Some(&root) };
    let command = parent.and_then(|parent| parent.find_subcommand(args.get(at)?));
    let (args, unread) = match command {
        Some(command) => with_variables(command, args, at, variables),
        None => (args, Vec::new()),
    };
    let is_json =
        |pair: &[OsString]| pair[1] == "--log-format=json" || pair[0] == "--log-format" && pair[1] == "json";
    telemetry::prefer_json(args.windows(2).any(is_json));
    let names = command.map(|command| variables_of(command.get_arguments())).unwrap_or_default();
    let matches = without(root, &unread).try_get_matches_from(args).map_err(explained)?;
    let cli = Cli::from_arg_matches(&matches).map_err(explained)?;
    let unused = unused(&names, variables)?;
    if let Command::Roles(roles) = &cli.command {
        if !unused.is_empty() {
            let text = format!("environment variables without effect: {}", unused.join(", "));
            telemetry::write_line(Level::WARN, &text);
        }
        roles.check().map_err(Error::Config)?;
    }
    Ok(cli.command)
}

/// The definition of the command line. Help does not show the values of variables.
fn definition() -> clap::Command {
    fn without_values(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(without_values)
    }
    let checked = |role: clap::Command| {
        let about = format!("Check what `godzilla {}` would run with", role.get_name());
        role.about(about).after_help(Resettable::Reset)
    };
    without_values(Cli::command().mut_subcommand("doctor", |doctor| doctor.mut_subcommands(checked)))
}

/// The definition without the variables in `unread`, which clap would read itself.
fn without(command: clap::Command, unread: &[OsString]) -> clap::Command {
    let read = |arg: Arg| {
        let is_unread = arg.get_env().is_some_and(|name| unread.iter().any(|other| other == name));
        if is_unread { arg.env(Resettable::Reset) } else { arg }
    };
    command.mut_args(read).mut_subcommands(|command| without(command, unread))
}

/// Inserts `serve` when the first argument, or the first one after `doctor`, is absent or is a flag.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let general = ["-h", "--help", "-V", "--version"];
    let at = if args.get(1).is_some_and(|arg| arg == "doctor") { 2 } else { 1 };
    let first = args.get(at).and_then(|arg| arg.to_str()).unwrap_or("");
    if first.is_empty() || (first.starts_with('-') && !general.contains(&first)) {
        args.insert(at.min(args.len()), "serve".into());
    }
    args
}

/// The arguments with those variables that `command` reads and no flag overrides, trimmed, and the variables that clap must not read.
/// The name of the command is at `at`.
fn with_variables(
    command: &clap::Command,
    mut args: Vec<OsString>,
    at: usize,
    variables: &[(OsString, OsString)],
) -> (Vec<OsString>, Vec<OsString>) {
    let mut unread = Vec::new();
    for arg in command.get_arguments() {
        let (Some(long), Some(name)) = (arg.get_long(), arg.get_env()) else { continue };
        let variable = variables.iter().find(|(other, _)| other == name);
        // clap refuses a value that is no text, or uses it as a path.
        let Some(value) = variable.and_then(|(_, value)| value.to_str()).map(str::trim) else { continue };
        let long = format!("--{long}");
        let is_given = |arg: &OsString| {
            let rest = arg.to_str().and_then(|arg| arg.strip_prefix(long.as_str()));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        let is_switch = !arg.get_action().takes_values();
        let is_off =
            is_switch && ["0", "n", "no", "f", "false", "off"].contains(&&*value.to_ascii_lowercase());
        let is_on = is_switch && ["1", "y", "yes", "t", "true", "on"].contains(&&*value.to_ascii_lowercase());
        if value.is_empty() || is_off || args.iter().any(is_given) {
            unread.push(name.to_owned());
        } else if is_on {
            args.insert(at + 1, long.into());
        } else if !is_switch {
            args.insert(at + 1, format!("{long}={}", trimmed(arg, value)).into());
        }
    }
    (args, unread)
}

/// A list without white space and empty elements, or the value itself.
fn trimmed(arg: &Arg, value: &str) -> String {
    let Some(delimiter) = arg.get_value_delimiter() else { return value.to_owned() };
    let is_separator = |character: char| character == delimiter || character.is_whitespace();
    let elements = value.split(is_separator).filter(|element| !element.is_empty());
    elements.collect::<Vec<_>>().join(&delimiter.to_string())
}

fn variables_of<'a>(args: impl Iterator<Item = &'a Arg>) -> BTreeSet<OsString> {
    args.filter_map(|arg| arg.get_env().map(OsStr::to_owned)).collect()
}

/// The variables with the prefix that are set and not in `names`, those of the command. Kubernetes sets some for a service called
/// `godzilla`.
///
/// # Errors
/// When no command reads a variable, and its name is similar to one that a command reads: the mistake would show much later.
fn unused(names: &BTreeSet<OsString>, variables: &[(OsString, OsString)]) -> Result<Vec<String>, Error> {
    let cli = Cli::command();
    let valid = variables_of(cli.get_subcommands().flat_map(clap::Command::get_arguments));
    let is_empty = |value: &OsString| value.to_str().is_some_and(|value| value.trim().is_empty());
    let mut unused = Vec::new();
    for (name, value) in variables {
        let text = name.to_string_lossy();
        if !text.starts_with(PREFIX) || names.contains(name) || is_empty(value) {
            continue;
        }
        if !valid.contains(name)
            && let Some(near) =
                valid.iter().filter_map(|other| other.to_str()).find(|other| is_near(&text, other))
        {
            return Err(Error::Config(format!("unknown environment variable {text} (is it {near}?)")));
        }
        unused.push(text.into_owned());
    }
    Ok(unused)
}

/// Whether one name is probably the other one, misspelt.
fn is_near(name: &str, other: &str) -> bool {
    let own = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    strsim::normalized_damerau_levenshtein(&own(name), &own(other)) >= 0.8
}

/// Converts an error of clap. The text never contains a value.
fn explained(error: clap::Error) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(all)) => all.join(", "),
        _ => String::new(),
    };
    let arg = context(ContextKind::InvalidArg);
    // The flag in clap's `--flag <VALUE>` or a user's `--flag=secret`.
    let flag = arg.split(['=', ' ']).next().unwrap_or_default();
    let key = match flag.strip_prefix("--") {
        Some(long) => format!("{flag} ({PREFIX}{})", long.replace('-', "_").to_ascii_uppercase()),
        None => flag.to_owned(),
    };
    let (reason, value) =
        (std::error::Error::source(&error).map(ToString::to_string), context(ContextKind::InvalidValue));
    Error::Config(match (error.kind(), reason) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => {
            return Error::Help(error.render().to_string());
        }
        (ErrorKind::UnknownArgument, _) if flag.starts_with('-') => {
            format!("unknown flag {flag}; see `godzilla serve --help`")
        }
        (ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand | ErrorKind::MissingSubcommand, _) => {
            "unknown command or argument; see `godzilla --help`".to_owned()
        }
        (ErrorKind::MissingRequiredArgument, _) => {
            format!("{} is missing; see the --help of the command", arg.replace(['<', '>', '[', ']'], ""))
        }
        (ErrorKind::ArgumentConflict, _) => {
            format!("{key} is given twice, or beside a flag that excludes it")
        }
        (ErrorKind::InvalidUtf8, _) => "a value is not UTF-8".to_owned(),
        (ErrorKind::InvalidValue, _) => {
            format!("the value of {key} is missing or refused: expected {}", context(ContextKind::ValidValue))
        }
        (_, Some(reason)) if value.is_empty() || !reason.contains(&value) => {
            format!("the value of {key} is refused: {reason}")
        }
        _ => format!("the value of {key} is refused"),
    })
}

#[cfg(test)]
mod tests;
