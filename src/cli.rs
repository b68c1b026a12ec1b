//! The command line: which role or tool runs, with what configuration. Called by `main`; every refusal names the key and
//! never the value, because a value in the wrong place may be a secret.

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
    config::{Accounts, Backup, Chat, Check, Gateway, Healthcheck, Presence, Seed, Serve},
    doctor::{self, Environment},
    error::Error,
    telemetry,
};

use self::examples::{
    ACCOUNTS_EXAMPLES, AFTER_HELP, BACKUP_EXAMPLES, CHAT_EXAMPLES, CHECK_EXAMPLES, DOCTOR_EXAMPLES,
    GATEWAY_EXAMPLES, PRESENCE_EXAMPLES, SERVE_EXAMPLES,
};

/// A self-hosted real-time chat backend for people who already use Socket.IO clients.
#[derive(Debug, Parser)]
#[command(name = "godzilla", version, about, after_help = AFTER_HELP, subcommand_required = true)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What the program can be.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process on an embedded store (the default when no command is given)
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<Serve>),
    /// Run the gateway alone: the way in for everybody, in front of accounts and any number of chat nodes
    #[command(after_help = GATEWAY_EXAMPLES)]
    Gateway(Box<Gateway>),
    /// Run the accounts service alone: register, login, logout and me, on MongoDB and Redis, behind a gateway
    #[command(after_help = ACCOUNTS_EXAMPLES)]
    Accounts(Box<Accounts>),
    /// Run one chat node: rooms, sockets and history, on MongoDB and Redis, behind gateways; as many as are needed
    #[command(after_help = CHAT_EXAMPLES)]
    Chat(Box<Chat>),
    /// Run the presence service alone: who is online and who is typing, over gRPC
    #[command(after_help = PRESENCE_EXAMPLES)]
    Presence(Box<Presence>),
    /// Fill an empty store with sample users and messages
    Seed(Seed),
    /// Copy the embedded store into a directory, also while a server uses it
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup(Backup),
    /// Read the whole embedded store and print what is wrong with it: exit status 0 or 1
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Ask a running server whether it is ready: exit status 0 or 1
    Healthcheck(Healthcheck),
    /// Check the configuration of a role without starting it: exit status 0 or 1
    #[command(after_help = DOCTOR_EXAMPLES, disable_help_subcommand = true)]
    Doctor {
        /// The role
        #[command(subcommand)]
        role: doctor::Role,
        // What the environment holds besides.
        #[arg(skip)]
        environment: Environment,
    },
}

/// Prefix of our environment variables.
const PREFIX: &str = "GODZILLA_";

/// What `args` (with the program's name) and `variables` ask for. An empty variable is an absent one: that is what compose files and
/// charts make of a value that is not set.
pub fn read(
    args: impl Iterator<Item = OsString>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Command, Error> {
    let args = with_command(args.collect());
    let (empty, set): (Vec<_>, Vec<_>) = variables.partition(|(_, value)| values::is_empty(value));
    let empty: Vec<OsString> = empty.into_iter().map(|(name, _)| name).collect();
    let (args, hidden) = values::trimmed(&Cli::command(), args, &set);
    let command = args.get(1).map(|command| command.to_string_lossy().into_owned()).unwrap_or_default();
    let explained = |error| refusal::explained(error, &command);
    let unread: Vec<OsString> = empty.iter().chain(&hidden).cloned().collect();
    let matches = definition(&unread).try_get_matches_from(args).map_err(explained)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(explained)?;
    if matches!(cli.command, Command::Serve(_) | Command::Doctor { role: doctor::Role::Serve(_), .. }) {
        refuse_split(&set)?;
    }
    refuse_unknown(&set, &empty)?;
    let without_effect = without_effect(&set, &empty);
    match &mut cli.command {
        Command::Doctor { environment, .. } => *environment = Environment::new(without_effect, &set),
        _ => without_effect
            .iter()
            .for_each(|text| telemetry::write_line(Level::WARN, &format!("warning: {text}"))),
    }
    match &cli.command {
        Command::Serve(config) => config.check(),
        Command::Gateway(config) => config.check(),
        Command::Accounts(config) => config.check(),
        Command::Chat(config) => config.check(),
        Command::Presence(config) => config.check(),
        // The doctor makes a finding of it.
        Command::Seed(_)
        | Command::Backup(_)
        | Command::Check(_)
        | Command::Healthcheck(_)
        | Command::Doctor { .. } => Ok(()),
    }
    .map_err(Error::Config)?;
    Ok(cli.command)
}

/// Whether `args` or `variables` ask for log lines in JSON. What is wrong with the rest of them is logged in that form, too.
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

/// The command line as clap knows it: help never shows what a variable holds, nor flags that `serve` has no use for. The variables in
/// `empty` are not read.
fn definition(empty: &[OsString]) -> clap::Command {
    let serve = |serve: clap::Command| serve.mut_arg("presence_url", |arg| arg.hide(true));
    let whole = Cli::command().mut_subcommand("serve", serve);
    prepared(whole.mut_subcommand("doctor", |doctor| doctor.mut_subcommand("serve", serve)), empty)
}

/// `command` and its subcommands without the values of variables, and without the variables in `empty`.
fn prepared(command: clap::Command, empty: &[OsString]) -> clap::Command {
    let read = |arg: clap::Arg| {
        let is_empty = arg.get_env().is_some_and(|name| empty.iter().any(|other| other == name));
        let arg = arg.hide_env_values(true);
        if is_empty { arg.env(Resettable::Reset) } else { arg }
    };
    command.mut_args(read).mut_subcommands(|command| prepared(command, empty))
}

/// `serve` is meant when the first argument, or the first behind `doctor`, is none or a flag of it.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let general = ["-h", "--help", "-V", "--version"];
    let at = if args.get(1).is_some_and(|arg| arg == "doctor") { 2 } else { 1 };
    let first = args.get(at).and_then(|arg| arg.to_str()).unwrap_or("");
    if first.is_empty() || (first.starts_with('-') && !general.contains(&first)) {
        args.insert(at.min(args.len()), "serve".into());
    }
    args
}

/// Stores of the split system that `serve` would not use: whoever names them expects it to.
fn refuse_split(variables: &[(OsString, OsString)]) -> Result<(), Error> {
    const OTHERS: [&str; 6] =
        ["MONGO_URI", "MONGO_URI_FILE", "REDIS_URL", "REDIS_URL_FILE", "ACCOUNTS_URL", "DEPLOYMENT"];
    let other = OTHERS
        .into_iter()
        .map(|other| format!("{PREFIX}{other}"))
        .find(|other| variables.iter().any(|(name, _)| name == other.as_str()));
    match other {
        None => Ok(()),
        Some(other) => Err(Error::Config(format!(
            "{other} has no use in `serve`, which keeps everything in --data-dir; run the roles gateway, accounts, chat and presence"
        ))),
    }
}

/// A variable of ours that nothing reads is a mistake that would otherwise show much later. What Kubernetes and Docker set is none.
fn refuse_unknown(set: &[(OsString, OsString)], empty: &[OsString]) -> Result<(), Error> {
    match unknown(set, empty).find(|(_, value)| !value.is_empty()) {
        None => Ok(()),
        Some((name, _)) => Err(Error::Config(format!(
            "unknown environment variable {name}{}; `godzilla serve --help` lists the known ones",
            suggestion(&name, &variables())
        ))),
    }
}

/// The unknown variables that are empty, in words: compose files and charts write such ones (`GODZILLA_FOO: ${FOO:-}`), also for
/// other releases.
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

/// The variables with our prefix that no command reads and no orchestrator sets.
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

/// The known variable that is nearest to `name`, if one is near.
fn suggestion(name: &str, valid: &BTreeSet<OsString>) -> String {
    /// Names that are less alike have nothing to do with each other.
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

/// Every variable that some command reads.
fn variables() -> BTreeSet<OsString> {
    let cli = Cli::command();
    let args = cli.get_subcommands().flat_map(clap::Command::get_arguments);
    args.filter_map(|arg| arg.get_env().map(OsStr::to_owned)).collect()
}

#[cfg(test)]
mod tests;
