//! The command line: selects the role or tool to run, and its configuration. Called by `main`. Every refusal names the
//! key and never the value, because a misplaced value can be a secret.

mod examples;
mod links;
mod refusal;
mod values;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    ffi::{OsStr, OsString},
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, builder::Resettable};

use tracing::Level;

use crate::{
    config::{Backup, Check, Healthcheck, Migrate, Seed},
    doctor::Environment,
    error::Error,
    role::RoleSet,
    telemetry,
};

use self::examples::{AFTER_HELP, BACKUP_EXAMPLES, CHECK_EXAMPLES, DOCTOR_EXAMPLES, MIGRATE_EXAMPLES};

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
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup(Backup),
    /// Read the whole embedded store and print what is wrong with it: exit status 0 or 1
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Change the rooms in MongoDB to the form of this release, while no chat node runs
    #[command(after_help = MIGRATE_EXAMPLES)]
    Migrate(Migrate),
    /// Ask a running server whether it is ready: exit status 0 or 1
    Healthcheck(Healthcheck),
    /// Check the configuration of a role without starting it: exit status 0 or 1
    #[command(after_help = DOCTOR_EXAMPLES, disable_help_subcommand = true)]
    Doctor {
        /// The role
        #[command(subcommand)]
        role: RoleSet,
        // The environment variables that no flag reads.
        #[arg(skip)]
        environment: Environment,
    },
}

/// Prefix of the environment variables of this program.
const PREFIX: &str = "GODZILLA_";

/// Parses `args` (with the program's name) and `variables`. An empty variable counts as absent: compose files and
/// charts set a variable to the empty string when its value is not set.
pub fn read(
    args: impl Iterator<Item = OsString>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Command, Error> {
    let args = with_command(args.collect());
    let (empty, set): (Vec<_>, Vec<_>) = variables.partition(|(_, value)| values::is_empty(value));
    let empty: Vec<OsString> = empty.into_iter().map(|(name, _)| name).collect();
    let ignored = ignored(&args, &set);
    let (read, _): (Vec<_>, Vec<_>) = set.iter().cloned().partition(|(name, _)| !ignored.contains(name));
    let (args, hidden) = values::trimmed(&Cli::command(), args, &read);
    let command = args.get(1).map(|command| command.to_string_lossy().into_owned()).unwrap_or_default();
    let explained = |error| refusal::explained(error, &command);
    refusal::refuse_not_utf8(&args, &read)?;
    let unread: Vec<OsString> = empty.iter().chain(&hidden).chain(&ignored).cloned().collect();
    let matches = definition(&unread).try_get_matches_from(args).map_err(explained)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(explained)?;
    if let Command::Roles(roles) | Command::Doctor { role: roles, .. } = &cli.command {
        roles.check_variables(&|name| set.iter().any(|(other, _)| other == name)).map_err(Error::Config)?;
    }
    refuse_unknown(&set, &empty)?;
    let without_effect = without_effect(&set, &empty);
    match &mut cli.command {
        Command::Doctor { environment, .. } => *environment = Environment::new(without_effect, &set),
        _ => without_effect
            .iter()
            .for_each(|text| telemetry::write_line(Level::WARN, &format!("warning: {text}"))),
    }
    // The doctor reports it as a finding.
    if let Command::Roles(roles) = &cli.command {
        roles.check().map_err(Error::Config)?;
    }
    Ok(cli.command)
}

/// Whether `args` or `variables` request log lines in JSON. Errors in the other arguments are logged in the same
/// format.
pub fn is_json_requested(
    args: impl Iterator<Item = OsString>,
    mut variables: impl Iterator<Item = (OsString, OsString)>,
) -> bool {
    let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    let next = |at: usize| args.get(at + 1).map(String::as_str);
    let flag = args.iter().enumerate().find_map(|(at, arg)| match arg.as_str() {
        "--log-format" => next(at),
        arg => arg.strip_prefix("--log-format="),
    });
    match flag {
        Some(format) => format.trim() == "json",
        None => variables.any(|(name, value)| {
            name == "GODZILLA_LOG_FORMAT" && value.to_str().is_some_and(|format| format.trim() == "json")
        }),
    }
}

/// The definition of the command line. Help does not show the values of variables. The variables in `empty` are not read.
fn definition(empty: &[OsString]) -> clap::Command {
    let checked = |role: clap::Command| {
        let about = format!("Check what `godzilla {}` would run with", role.get_name());
        let is_default = role.get_name() == "serve";
        let about = if is_default { about + " (the default when no role is given)" } else { about };
        role.about(about).after_help(Resettable::Reset)
    };
    prepared(Cli::command().mut_subcommand("doctor", |doctor| doctor.mut_subcommands(checked)), empty)
}

/// Hides the values of variables in `command` and its subcommands, and removes the variables in `empty`.
fn prepared(command: clap::Command, empty: &[OsString]) -> clap::Command {
    let read = |arg: clap::Arg| {
        let is_empty = arg.get_env().is_some_and(|name| empty.iter().any(|other| other == name));
        let arg = arg.hide_env_values(true);
        if is_empty { arg.env(Resettable::Reset) } else { arg }
    };
    command.mut_args(read).mut_subcommands(|command| prepared(command, empty))
}

/// The variables that the command does not read: those of the roles that `run` does not run, whose values may be invalid.
fn ignored(args: &[OsString], set: &[(OsString, OsString)]) -> Vec<OsString> {
    let words: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    if !matches!(words[..], [_, "run", ..] | [_, "doctor", "run", ..]) {
        return Vec::new();
    }
    let given = words.iter().enumerate().filter_map(|(at, word)| match *word {
        "--roles" => words.get(at + 1).copied(),
        word => word.strip_prefix("--roles="),
    });
    let mut lists: Vec<&str> = given.collect();
    if lists.is_empty() {
        lists.extend(
            set.iter().find(|(name, _)| name == "GODZILLA_ROLES").and_then(|(_, list)| list.to_str()),
        );
    }
    let is_separator = |character: char| character == ',' || character.is_whitespace();
    let roles = lists.iter().flat_map(|list| list.split(is_separator)).filter(|role| !role.is_empty());
    RoleSet::variables_of_others(&roles.collect::<Vec<_>>())
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

/// Refuses variables with the prefix that no command reads, because the mistake would show much later. Variables that
/// Kubernetes and Docker set are allowed.
fn refuse_unknown(set: &[(OsString, OsString)], empty: &[OsString]) -> Result<(), Error> {
    match unknown(set, empty).find(|(_, value)| !value.is_empty()) {
        None => Ok(()),
        Some((name, _)) => Err(Error::Config(format!(
            "unknown environment variable {name}{}; `godzilla serve --help` lists the valid names",
            suggestion(&name, &variables())
        ))),
    }
}

/// One text for each unknown variable that is empty. Such variables are no error: compose files and charts set them
/// (`GODZILLA_FOO: ${FOO:-}`), also for other releases.
fn without_effect(set: &[(OsString, OsString)], empty: &[OsString]) -> Vec<String> {
    let valid = variables();
    let empty = unknown(set, empty).filter(|(_, value)| value.is_empty());
    let text = |(name, _): (Cow<'_, str>, _)| {
        format!(
            "the environment variable {name} is empty and unknown{}: it has no effect",
            suggestion(&name, &valid)
        )
    };
    empty.map(text).collect()
}

/// The variables with the prefix that no command reads and no orchestrator sets.
fn unknown<'a>(
    set: &'a [(OsString, OsString)],
    empty: &'a [OsString],
) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
    let valid = variables();
    let set = set.iter().map(|(name, value)| (name.to_string_lossy(), value.to_string_lossy()));
    let all: Vec<_> =
        set.chain(empty.iter().map(|name| (name.to_string_lossy(), Cow::Borrowed("")))).collect();
    let names: Vec<_> = all.iter().map(|(name, _)| name.clone()).collect();
    all.into_iter().filter(move |(name, value)| {
        name.starts_with(PREFIX)
            && !valid.contains(OsStr::new(&**name))
            && !links::is_of_an_orchestrator(name, value, names.iter().map(AsRef::as_ref))
    })
}

/// The valid variable that is most similar to `name`, when one is similar enough.
fn suggestion(name: &str, valid: &BTreeSet<OsString>) -> String {
    /// Minimum similarity, from 0 to 1. Less similar names are unrelated.
    const MIN_SIMILARITY: f64 = 0.8;
    let own = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    let similarity = |other: &str| strsim::normalized_damerau_levenshtein(&own(name), &own(other));
    let valid = valid.iter().filter_map(|other| other.to_str());
    let nearest =
        valid.map(|other| (similarity(other), other)).max_by(|one, other| one.0.total_cmp(&other.0));
    nearest
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .map_or(String::new(), |(_, other)| format!(" (is it {other}?)"))
}

/// All variables that a command reads.
fn variables() -> BTreeSet<OsString> {
    let cli = Cli::command();
    let args = cli.get_subcommands().flat_map(clap::Command::get_arguments);
    args.filter_map(|arg| arg.get_env().map(OsStr::to_owned)).collect()
}

#[cfg(test)]
mod tests;
