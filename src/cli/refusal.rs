//! Errors of clap as texts that contain the flag, its variable and the expected form, and never the value. Called by
//! [`super::read`].

use std::{any::TypeId, ffi::OsString, path::PathBuf};

use clap::{
    Arg, CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    Cli,
    values::{SWITCH, chosen},
};
use crate::error::Error;

/// Converts an error of clap. The text never contains a value.
pub(super) fn explained(error: clap::Error, command: &str) -> Error {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Error::Help(error.render().to_string());
    }
    let key = text(&error, ContextKind::InvalidArg).map(key_of).unwrap_or_default();
    let reason = std::error::Error::source(&error).map(ToString::to_string);
    Error::Config(match (error.kind(), reason) {
        (ErrorKind::UnknownArgument, _) if key.starts_with('-') => {
            format!("unknown flag {key}; see `godzilla serve --help`")
        }
        (ErrorKind::UnknownArgument | ErrorKind::MissingSubcommand, _) => {
            "unexpected argument; see `godzilla --help`".to_owned()
        }
        (ErrorKind::InvalidUtf8, _) => "an argument is not UTF-8; write it in UTF-8".to_owned(),
        (ErrorKind::InvalidSubcommand, _) => "unknown command; see `godzilla --help`".to_owned(),
        (ErrorKind::MissingRequiredArgument, _) => {
            let missing = missing(&error).join(", ");
            format!("{missing} is missing; see `godzilla {command} --help`")
        }
        (ErrorKind::ArgumentConflict, _) => format!("{key} is given twice"),
        (ErrorKind::ValueValidation, Some(reason)) => {
            format!(
                "the value of {} is refused: {}",
                with_variable(&key, command),
                expectation(&reason, &key, command)
            )
        }
        (ErrorKind::InvalidValue, _) if is_switch(&key, command) => {
            format!("the value of {} is refused: {SWITCH}", with_variable(&key, command))
        }
        _ => {
            let allowed = allowed(&error);
            let allowed =
                if allowed.is_empty() { String::new() } else { format!(": expected {}", allowed.join(", ")) };
            format!(
                "the value of {} is missing or not one of those allowed{allowed}",
                with_variable(&key, command)
            )
        }
    })
}

/// Refuses values that are not UTF-8, for which clap does not name the flag or the variable. Paths may have any bytes.
///
/// # Errors
/// With the name of the flag or the variable.
pub(super) fn refuse_not_utf8(args: &[OsString], set: &[(OsString, OsString)]) -> Result<(), Error> {
    let root = Cli::command();
    let Some((_, command)) = chosen(&root, args) else { return Ok(()) };
    let texts = || {
        let is_path = |arg: &Arg| arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        command.get_arguments().filter(move |arg| !is_path(arg))
    };
    let flag = |(at, word): (usize, &OsString)| {
        if word.to_str().is_some() {
            return None;
        }
        let word = word.to_string_lossy();
        let flag = if word.starts_with('-') { word } else { args.get(at.checked_sub(1)?)?.to_string_lossy() };
        let flag = key_of(&flag);
        let long = flag.strip_prefix("--")?;
        texts().any(|arg| arg.get_long() == Some(long)).then_some(flag)
    };
    let variable = |arg: &Arg| {
        let name = arg.get_env()?;
        let (_, value) = set.iter().find(|(other, _)| other == name)?;
        value.to_str().is_none().then(|| name.to_string_lossy().into_owned())
    };
    match args.iter().enumerate().find_map(flag).or_else(|| texts().find_map(variable)) {
        Some(key) => {
            Err(Error::Config(format!("the value of {key} is refused: it is not UTF-8; write it in UTF-8")))
        }
        None => Ok(()),
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// The names of the missing arguments, without the brackets of clap's usage.
fn missing(error: &clap::Error) -> Vec<String> {
    let bare = |name: &String| name.trim_matches(['<', '>', '[', ']']).to_owned();
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(names)) => names.iter().map(bare).collect(),
        Some(ContextValue::String(name)) => vec![bare(name)],
        _ => vec!["an argument".to_owned()],
    }
}

/// The values that a flag with a fixed set of values accepts.
fn allowed(error: &clap::Error) -> Vec<String> {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => values.clone(),
        _ => Vec::new(),
    }
}

/// Whether the flag `key` takes no value on the command line.
fn is_switch(key: &str, command: &str) -> bool {
    argument(key, command).is_some_and(|arg| !arg.get_action().takes_values())
}

/// The flag in clap's `--flag <VALUE>` or a user's `--flag=secret`.
fn key_of(arg: &str) -> String {
    arg.split(['=', ' ']).next().unwrap_or_default().to_owned()
}

/// The flag and its variable, because the value can come from either.
fn with_variable(key: &str, command: &str) -> String {
    match argument(key, command).as_ref().and_then(Arg::get_env) {
        Some(variable) => format!("{key} ({})", variable.display()),
        None => key.to_owned(),
    }
}

/// The flag `key` of this command, or of any command when this one does not have it.
fn argument(key: &str, command: &str) -> Option<Arg> {
    let cli = Cli::command();
    let long = key.trim_start_matches('-');
    let own = cli.find_subcommand(command).into_iter();
    let mut args = own.chain(cli.get_subcommands()).flat_map(clap::Command::get_arguments);
    args.find(|arg| arg.get_long() == Some(long)).cloned()
}

/// The expectation in an error of a parser, without the value that some parsers of std and clap quote at its start.
fn expectation(reason: &str, key: &str, command: &str) -> String {
    /// Beginnings of the errors of std's number parsers.
    const NUMBERS: [&str; 4] =
        ["invalid digit", "number too", "cannot parse integer", "expected a whole number"];
    if is_switch(key, command) {
        return SWITCH.to_owned();
    }
    if NUMBERS.iter().any(|start| reason.starts_with(start)) {
        return number(argument(key, command).as_ref());
    }
    match reason.rsplit_once(" is not in ") {
        Some((_, range)) => format!("expected {range}"),
        None if reason.contains(['`', '\'', '"']) => "it cannot be read".to_owned(),
        None => reason.to_owned(),
    }
}

/// The expected form of a number, with the unit and the default value of its flag.
fn number(arg: Option<&Arg>) -> String {
    let unit = arg.and_then(Arg::get_value_names).and_then(|names| names.first());
    let unit = unit.map_or(String::new(), |unit| format!(" ({unit})"));
    let example = arg.and_then(|arg| arg.get_default_values().first()).and_then(|default| default.to_str());
    let example = example.map_or(String::new(), |example| format!(", such as {example}"));
    format!("expected a whole number without a unit{unit}{example}")
}
